//! Children of kinds that somebody else installs: no cache holds them, because their watch could not even begin before
//! the kind is there. They are looked at now and then instead.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, ResourceExt as _};
use recommendation_api::names::{APPLIED_HASH, Children, FIELD_MANAGER};

use super::children::{Applier, foreign, owned};
use super::{ApplyError, subset};

/// An object that was found as wanted is looked at again after this many resyncs.
const LOOKS: u32 = 4;

/// Owner's unique id and kind.
type Key = (String, String);

/// Objects that were found as wanted, with the hash of what was wanted (empty: nothing) and when.
#[derive(Debug, Default)]
pub struct Checked(Mutex<HashMap<Key, (String, Instant)>>);

impl Checked {
    fn stands(&self, key: &Key, hash: &str, resync: Duration) -> bool {
        let checked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        checked
            .get(key)
            .is_some_and(|(seen, at)| seen == hash && at.elapsed() < resync * LOOKS)
    }

    /// Whether it was ever found so.
    fn was_found(&self, key: &Key, hash: &str) -> bool {
        let checked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        checked.get(key).is_some_and(|(seen, _)| seen == hash)
    }

    fn note(&self, key: Key, hash: String) {
        let mut checked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        checked.insert(key, (hash, Instant::now()));
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, uid: &str) {
        let mut checked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        checked.retain(|(owner, _), _| owner != uid);
    }
}

impl Applier<'_> {
    /// Applies an object after a look at it. `None` deletes it if it is this pipeline's.
    ///
    /// # Errors
    /// Any [`ApplyError`].
    pub async fn uncached(
        &self,
        resource: &ApiResource,
        wanted: Option<&DynamicObject>,
        checked: &Checked,
        resync: Duration,
    ) -> Result<(), ApplyError> {
        let key = (self.id.owner.uid.clone(), resource.kind.clone());
        let hash = wanted.and_then(|wanted| wanted.annotations().get(APPLIED_HASH).cloned());
        let hash = hash.unwrap_or_default();
        if checked.stands(&key, &hash, resync) {
            return Ok(());
        }
        match self.looked_at(resource, wanted).await {
            // An API server that cannot be asked says nothing about it: a condition must not move with its moods.
            Err(error) if error.is_silence() && checked.was_found(&key, &hash) => {
                tracing::warn!(%error, "what was found before stands");
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => {
                checked.note(key, hash);
                Ok(())
            }
        }
    }

    async fn looked_at(
        &self,
        resource: &ApiResource,
        wanted: Option<&DynamicObject>,
    ) -> Result<(), ApplyError> {
        let name = Children(&self.id.name).workload();
        let kind = resource.kind.clone();
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.id.namespace, resource);
        let live = self.written(&kind, &name, api.get_opt(&name)).await?;
        let encode = |source| ApplyError::Encode {
            kind: kind.clone(),
            name: name.clone(),
            source,
        };
        let Some(wanted) = wanted else {
            if let Some(live) = live.filter(|live| owned(live, self.id)) {
                let uid = live.uid().unwrap_or_default();
                self.delete(&api, &kind, &name, &uid).await?;
            }
            return Ok(());
        };
        let wanted = serde_json::to_value(wanted).map_err(encode)?;
        if live.as_ref().is_some_and(|live| foreign(live, self.id)) {
            return Err(ApplyError::Foreign { kind, name });
        }
        if let Some(live) = live
            && subset::contains(&serde_json::to_value(&live).map_err(encode)?, &wanted)
        {
            return Ok(());
        }
        tracing::info!(%kind, %name, "applying");
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.written(&kind, &name, api.patch(&name, &params, &Patch::Apply(&wanted)))
            .await?;
        Ok(())
    }
}
