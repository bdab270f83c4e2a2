//! The shipped ClusterRole is enough, as every test here shows, and holds nothing that is not needed: one pipeline's whole
//! life makes use of every right, and without any one rule of it that life does not come to its end.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::harness::{Harness, Operator};
use crate::life::{install_all, live};
use crate::monitoring::uninstall;

/// Group, resource and verb.
type Right = (String, String, String);

/// Rights that no request shows: the API server asks for this one itself where OwnerReferencesPermissionEnforcement is on,
/// when an owner reference blocks its owner's deletion.
const UNSEEN: [(&str, &str, &str); 1] = [(
    "recommendation.dev",
    "recommendationpipelines/finalizers",
    "update",
)];
/// What a life with every right is without.
static NOTHING: BTreeSet<Right> = BTreeSet::new();
/// Lives at the same time; most of each is waiting.
const BESIDE: usize = 6;
/// A life that was refused something and has not ended then does not end. With every right it takes half as long, which
/// is looked at first: where lives take longer, nothing can be told.
const LIFETIME: Duration = Duration::from_secs(30);

/// The right that a request needs; `None` for discovery.
fn right(method: &str, address: &str) -> Option<Right> {
    let address: http::Uri = address.parse().unwrap();
    let parts: Vec<&str> = address.path().trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let rest = match rest {
        ["namespaces", _, rest @ ..] => rest,
        rest => rest,
    };
    let (resource, name) = match rest {
        [resource, _, sub] => (format!("{resource}/{sub}"), true),
        [resource, _] => ((*resource).to_owned(), true),
        [resource] => ((*resource).to_owned(), false),
        _ => return None,
    };
    let watch = address.query().is_some_and(|query| query.contains("watch=true"));
    let verb = match (method, name) {
        ("GET", true) => "get",
        ("GET", false) if watch => "watch",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => panic!("{method} {address}"),
    };
    Some((group.to_owned(), resource, verb.to_owned()))
}

async fn shipped(harness: &Harness) -> Vec<PolicyRule> {
    let roles: Api<ClusterRole> = Api::all(harness.client.clone());
    let role = roles.get("recommendation-operator").await.unwrap();
    role.rules.unwrap()
}

/// Every single right of some rules.
fn granted(rules: &[PolicyRule]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    rights.insert((group.clone(), resource.clone(), verb.clone()));
                }
            }
        }
    }
    rights
}

fn unseen() -> BTreeSet<Right> {
    let owned = |(group, resource, verb): (&str, &str, &str)| {
        (group.to_owned(), resource.to_owned(), verb.to_owned())
    };
    UNSEEN.map(owned).into()
}

#[tokio::test]
async fn every_right_of_the_shipped_role_is_used_in_the_life_of_a_pipeline() {
    let harness = Harness::alone().await;
    let operator = harness.operator().await;
    let installed = install_all(&harness.client).await;
    live(&harness, &operator, &Mutex::default()).await;
    let mut used = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for (method, address) in operator.asked() {
        let Some((group, resource, verb)) = right(&method, &address) else {
            continue;
        };
        // An apply of what is not there yet: the API server asks for both rights.
        let path = address.split('?').next().unwrap_or_default().to_owned();
        if verb == "patch" && address.contains("force=true") && seen.insert(path) {
            used.insert((group.clone(), resource.clone(), "create".to_owned()));
        }
        used.insert((group, resource, verb));
    }
    let unused: Vec<Right> = granted(&shipped(&harness).await)
        .into_iter()
        .filter(|right| !used.contains(right) && !unseen().contains(right))
        .collect();
    assert!(unused.is_empty(), "rights that nothing uses: {unused:#?}");
    uninstall(&harness.client, &installed).await;
    harness.end(operator).await;
}

/// Takes some rights away: a user who has all others.
struct Less {
    name: String,
    roles: Api<ClusterRole>,
    bindings: Api<ClusterRoleBinding>,
}

impl Less {
    async fn new(harness: &Harness, all: &BTreeSet<Right>, without: &BTreeSet<Right>) -> Self {
        let name = format!("less-{}", harness.namespace);
        let rules: Vec<_> = all
            .difference(without)
            .map(|(group, resource, verb)| json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]}))
            .collect();
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
            "rules": rules,
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        });
        let less = Self {
            roles: Api::all(harness.client.clone()),
            bindings: Api::all(harness.client.clone()),
            name,
        };
        let params = PatchParams::apply("tests");
        less.roles
            .patch(&less.name, &params, &Patch::Apply(&role))
            .await
            .unwrap();
        less.bindings
            .patch(&less.name, &params, &Patch::Apply(&binding))
            .await
            .unwrap();
        less
    }

    async fn remove(self) {
        let params = DeleteParams::default();
        self.bindings.delete(&self.name, &params).await.unwrap();
        self.roles.delete(&self.name, &params).await.unwrap();
    }
}

/// Whether the API server refused something for want of one of these rights.
fn refused(operator: &Operator, without: &BTreeSet<Right>) -> bool {
    let asked = operator.refused();
    let mut missing = asked
        .iter()
        .filter_map(|(method, address)| right(method, address));
    missing.any(|(group, resource, verb)| {
        // An apply of what is not there is refused as a patch, whichever of both rights is missing.
        let also = ["create", "patch"];
        without.iter().any(|(g, r, v)| {
            *g == group
                && *r == resource
                && (*v == verb || (also.contains(&v.as_str()) && also.contains(&verb.as_str())))
        })
    })
}

/// What a life without these rights did not come to; an error if it did without them.
async fn missed(
    harness: &Harness,
    all: &BTreeSet<Right>,
    without: &BTreeSet<Right>,
) -> Result<&'static str, String> {
    let place = harness.beside().await;
    let less = Less::new(&place, all, without).await;
    let operator = place.operator_as(&less.name, vec![place.namespace.clone()]).await;
    let at = Mutex::new("");
    let life = tokio::time::timeout(LIFETIME, live(&place, &operator, &at)).await;
    let last = *at.lock().unwrap();
    let outcome = match (life, refused(&operator, without)) {
        (Err(_), true) => Ok(last),
        (Err(_), false) => Err(format!("it waited for {last}, and nothing was refused")),
        (Ok(()), true) => Err("something was refused, and it came to its end all the same".to_owned()),
        (Ok(()), false) => Err("it came to its end without".to_owned()),
    };
    place.end(operator).await;
    less.remove().await;
    outcome
}

/// As many lives with every right as stand beside each other later: how long the slowest took.
async fn whole_lives(harness: &Harness, all: &BTreeSet<Right>) -> Duration {
    let begun = Instant::now();
    let lives = (0..BESIDE).map(|_| missed(harness, all, &NOTHING));
    for outcome in futures::future::join_all(lives).await {
        assert_eq!(
            outcome.unwrap_err(),
            "it came to its end without",
            "with every right"
        );
    }
    begun.elapsed()
}

/// Removes each of these from the shipped role and tells what a life without it misses.
async fn remove_each(harness: &Harness, each: Vec<(String, BTreeSet<Right>)>) {
    let installed = install_all(&harness.client).await;
    let all = granted(&shipped(harness).await);
    println!("with every right: {:.1?}", whole_lives(harness, &all).await);
    let lives = futures::stream::iter(each.into_iter().map(|(name, without)| {
        let all = &all;
        async move { (name, missed(harness, all, &without).await) }
    }));
    let outcomes: Vec<(String, Result<&str, String>)> = lives.buffer_unordered(BESIDE).collect().await;
    for (name, outcome) in &outcomes {
        println!("without {name}: {outcome:?}");
    }
    uninstall(&harness.client, &installed).await;
    let needless: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).collect();
    assert!(
        needless.is_empty(),
        "rights that a life does without: {needless:#?}"
    );
}

#[tokio::test]
async fn without_any_one_rule_of_the_shipped_role_a_pipelines_life_does_not_come_to_its_end() {
    let harness = Harness::alone().await;
    let rules = shipped(&harness).await.into_iter().map(|rule| {
        let rights: BTreeSet<Right> = granted(std::slice::from_ref(&rule));
        let named: BTreeSet<&str> = rights.iter().map(|(_, resource, _)| resource.as_str()).collect();
        (format!("{named:?}"), rights)
    });
    let rules = rules.filter(|(_, rights)| *rights != unseen()).collect();
    remove_each(&harness, rules).await;
    harness.remove().await;
}

/// Each right by itself takes some minutes: `cargo xtask conformance rights`, which names them in `RIGHTS`.
#[tokio::test]
async fn without_any_one_right_of_the_shipped_role_a_pipelines_life_does_not_come_to_its_end() {
    let harness = Harness::alone().await;
    let wanted = std::env::var("RIGHTS").unwrap_or_else(|_| "recommendationpipelines".to_owned());
    let rights = granted(&shipped(&harness).await).into_iter();
    let rights = rights
        .filter(|right| !unseen().contains(right) && (wanted == "all" || right.1 == wanted))
        .map(|right| (format!("{right:?}"), BTreeSet::from([right])))
        .collect();
    remove_each(&harness, rights).await;
    harness.remove().await;
}
