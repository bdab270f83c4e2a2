//! The console's files. They lie in the program, so that the console is there wherever the service is.

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

use crate::http::conditional::is_known;
use crate::http::problem::Problem;

struct File {
    name: &'static str,
    kind: &'static str,
    body: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($name:literal $kind:expr),+ $(,)?) => {
        static FILES: &[File] = &[$(File {
            name: $name,
            kind: $kind,
            body: include_str!(concat!("assets/", $name)),
        }),+];
    };
}

files! {
    "index.html" "text/html; charset=utf-8",
    "console.css" "text/css; charset=utf-8",
    "views.css" "text/css; charset=utf-8",
    "icon.svg" "image/svg+xml",
    "app.js" SCRIPT,
    "api.js" SCRIPT,
    "dom.js" SCRIPT,
    "charts.js" SCRIPT,
    "sign-in.js" SCRIPT,
    "customer.js" SCRIPT,
    "compare.js" SCRIPT,
    "live.js" SCRIPT,
    "model.js" SCRIPT,
    "shop.js" SCRIPT,
}

pub(super) async fn index(headers: HeaderMap) -> Response {
    file("index.html", &headers)
}

pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    file(&name, &headers)
}

fn file(name: &str, headers: &HeaderMap) -> Response {
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        return Problem::not_found("the console has no such file").into_response();
    };
    // Some microseconds for some kilobytes: not worth remembering.
    let tag = format!("\"{}\"", &hex::encode(Sha256::digest(file.body))[..16]);
    let mut response = if is_known(headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, file.kind)], file.body).into_response()
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    // Asked for again each time, and answered in a few bytes: a new version is seen at once.
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_no_inline_script_or_style_and_needs_nothing_from_elsewhere() {
        for file in FILES {
            for elsewhere in ["http://", "https://", "//cdn", "@import", "url("] {
                // The one address that is a name and not a place.
                let text = file.body.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(elsewhere), "{} has {elsewhere}", file.name);
            }
            for unsafe_way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!file.body.contains(unsafe_way), "{} has {unsafe_way}", file.name);
            }
        }
        let page = FILES[0].body;
        assert_eq!(
            page.matches("<script").count(),
            page.matches("<script type=\"module\" src=").count()
        );
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" onclick="));
    }

    #[test]
    fn every_file_that_a_script_or_the_page_names_is_served() {
        let known = |name: &str| FILES.iter().any(|file| file.name == name);
        for file in FILES.iter().filter(|file| file.kind == SCRIPT) {
            for import in file.body.split("from './").skip(1) {
                let name = import.split('\'').next().unwrap();
                assert!(known(name), "{} imports {name}", file.name);
            }
        }
        for named in FILES[0].body.split("\"console/").skip(1) {
            let name = named.split('"').next().unwrap();
            assert!(known(name), "the page names {name}");
        }
    }

    #[test]
    fn a_browser_that_has_a_file_is_spared_it() {
        let first = file("app.js", &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(file("app.js", &headers).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(file("../mod.rs", &headers).status(), StatusCode::NOT_FOUND);
    }
}
