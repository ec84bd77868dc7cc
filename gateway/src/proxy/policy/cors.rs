//! `cors`: which pages of other origins may ask and read (WHATWG Fetch, "CORS protocol").

use gateway_core::config::model;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::message::Request;
use crate::proxy::respond::Answer;

/// A `cors` made ready. What an origin says of CORS itself gives way to it.
#[derive(Debug)]
pub(crate) struct Cors {
    /// `None` is everybody.
    origins: Option<Vec<HeaderValue>>,
    credentials: bool,
    expose: Option<HeaderValue>,
    /// What a preflight of a page that may ask is told besides.
    preflight: Vec<(HeaderName, HeaderValue)>,
}

impl Cors {
    pub(crate) fn new(cors: &model::Cors) -> Box<Self> {
        let everybody = cors.origins.iter().any(|origin| origin == "*");
        let origins = cors.origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
        let methods = [Method::GET, Method::HEAD, Method::POST];
        let own = cors.methods.iter().filter(|method| !methods.contains(method));
        let methods = list(methods.iter().chain(own).map(Method::as_str));
        let headers = list(cors.headers.iter().map(HeaderName::as_str));
        let preflight = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, headers),
            (header::ACCESS_CONTROL_MAX_AGE, Some(HeaderValue::from(cors.max_age.as_secs()))),
        ];
        Box::new(Self {
            origins: (!everybody).then_some(origins),
            credentials: cors.credentials,
            expose: list(cors.expose.iter().map(HeaderName::as_str)),
            preflight: preflight.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        })
    }

    /// The answer to a preflight; `None` for every other request. A page that may not ask gets the same 204 without
    /// leave.
    pub(super) fn preflight(&self, request: &Request) -> Option<Answer> {
        asked_method(request)?;
        let mut answer = Answer::empty(StatusCode::NO_CONTENT);
        if self.leave(origin(request).as_ref()).is_some() {
            answer.fields.clone_from(&self.preflight);
        }
        let asked = "access-control-request-method, access-control-request-headers";
        answer.fields.push((header::VARY, HeaderValue::from_static(asked)));
        Some(answer)
    }

    /// Says on an answer whether the page that asked may read it.
    pub(crate) fn response(&self, response: &mut HeaderMap, origin: Option<&HeaderValue>) {
        response.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        response.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
        response.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
        if self.origins.is_some() {
            // Also without leave: a cache must not give one page's answer to another (Fetch, "CORS protocol and HTTP caches").
            response.append(header::VARY, HeaderValue::from_static("origin"));
        }
        let Some(leave) = self.leave(origin) else { return };
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, leave);
        if self.credentials {
            response.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(expose) = &self.expose {
            response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    /// What Access-Control-Allow-Origin says to a page of this origin, if it may read.
    fn leave(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        let origin = origin?;
        match &self.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(origins) => origins.contains(origin).then(|| origin.clone()),
        }
    }
}

/// The method a page asks leave for, if the request is a preflight.
pub(crate) fn asked_method(request: &Request) -> Option<Method> {
    if request.method != Method::OPTIONS || !request.headers.contains_key(header::ORIGIN) {
        return None;
    }
    let method = request.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(method.as_bytes()).ok()
}

/// Where the page that asks is from; nowhere if it says so more than once.
pub(super) fn origin(request: &Request) -> Option<HeaderValue> {
    let mut origins = request.headers.get_all(header::ORIGIN).iter();
    origins.next().filter(|_| origins.next().is_none()).cloned()
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let names: Vec<&str> = names.collect();
    HeaderValue::from_str(&names.join(", ")).ok().filter(|list| !list.is_empty())
}
