//! `routes` and `rate_limits`: what goes where, and under which policies.

use super::value::{BodyText, HeaderText, MaxInFlight, ValueMatch};
use crate::config::decode::{AtLeastOne, Map, OneOrMany, Rare, mapping};
use crate::config::leaf::{
    Cidr, Expression, FieldName, FieldValue, FilePath, Host, MethodName, Period, Status, UrlPath,
};
use crate::config::model::{At, LimitKey, LimitScope, StoreDown};
use crate::unit::{ByteSize, Rate, Ratio};

mapping! {
    /// What goes where: a match, policies, and a service, a redirect or an answer.
    pub(crate) struct Route {
        /// Which requests. Default: all of them.
        match_ as "match": Option<Match>,
        /// The service they are sent to.
        service: Option<At<String>>,
        /// Answers with another place instead.
        redirect: Option<Rare<At<Redirect>>>,
        /// Answers by itself instead.
        respond: Option<Rare<At<Respond>>>,
        /// Rate limits, in the order they are asked. Default: none.
        limits: Option<OneOrMany<At<String>>>,
        /// The largest request body; more is 413. Default: 10MiB.
        body_limit: Option<ByteSize>,
        /// Bodies of up to this size, 64KiB at most, are read whole before the service is asked. Default: they stream.
        buffer_request: Option<At<ByteSize>>,
        /// From the request's header to the answer's end; more is 504. Default: none.
        timeout: Option<At<Period>>,
        /// How many requests are served at a time: a number, or `{ requests, queue, wait }`; more are 503. Default: any number.
        max_in_flight: Option<Rare<MaxInFlight>>,
        /// Clients that may come; others get 403. Default: all.
        allow: Option<AtLeastOne<Cidr>>,
        /// Clients that get 403. Default: none.
        deny: Option<OneOrMany<Cidr>>,
        /// Who may read the answers from other origins. Default: left to the service.
        cors: Option<Rare<Cors>>,
        /// Changes to headers.
        headers: Option<Rare<Headers>>,
        /// Adds nosniff, X-Frame-Options and Referrer-Policy to answers without them, and HSTS over TLS. Default: false.
        security_headers: Option<bool>,
        /// Changes to path and Host.
        rewrite: Option<Rare<Rewrite>>,
        /// Sends copies of the requests to another service as well. Default: none.
        mirror: Option<Rare<At<Mirror>>>,
        /// Name and password. Default: not asked for.
        basic_auth: Option<Rare<At<BasicAuth>>>,
        /// Compresses answers a client can decompress. Default: false.
        compress: Option<bool>,
        /// What answers while the route is switched off.
        maintenance: Option<Rare<Maintenance>>,
    }

    /// Which requests. Within a list one is enough; every key that is given counts.
    pub(crate) struct Match {
        /// Host names; `*.shop.example` is everything below, never the name itself. Default: any.
        host: Option<AtLeastOne<Host>>,
        /// These paths and no other.
        path: Option<AtLeastOne<UrlPath>>,
        /// These paths and what lies below, by segment: `/api` takes `/api/x`, never `/apiary`.
        prefix: Option<AtLeastOne<UrlPath>>,
        /// Paths in which an expression is found; anchor it with ^ and $.
        regex: Option<AtLeastOne<Expression>>,
        /// Request methods. Default: any.
        methods: Option<AtLeastOne<MethodName>>,
        /// Header fields, all of them: a text is the exact value, or `{ present: true }`, `{ exact: … }`, `{ regex: … }`.
        headers: Option<Map<ValueMatch>>,
        /// Query parameters, all of them: as `headers`.
        query: Option<Map<ValueMatch>>,
    }

    /// Answers with another place.
    pub(crate) struct Redirect {
        /// An absolute URL or a path.
        to: At<String>,
        /// 301, 302, 303, 307 or 308. Default: 302.
        status: Option<At<Status>>,
    }

    /// Answers by itself.
    pub(crate) struct Respond {
        /// Default: 200.
        status: Option<Status>,
        /// Header fields beside Content-Length and Date.
        headers: Option<Map<FieldValue>>,
        /// A text, or a mapping that is sent as JSON. Default: empty.
        body: Option<BodyText>,
    }

    /// Who may read the answers from other origins (WHATWG Fetch).
    pub(crate) struct Cors {
        /// Origins such as `https://app.shop.example`, or `*` for all.
        origins: At<OneOrMany<At<String>>>,
        /// Methods beside GET, HEAD and POST. Default: none.
        methods: Option<OneOrMany<MethodName>>,
        /// Request headers a page may set beside the safelisted ones. Default: none.
        headers: Option<OneOrMany<FieldName>>,
        /// Response headers a page may read beside the safelisted ones. Default: none.
        expose: Option<OneOrMany<FieldName>>,
        /// Whether cookies come along; never together with `*`. Default: false.
        credentials: Option<At<bool>>,
        /// How long a preflight is remembered. Default: 10m.
        max_age: Option<Period>,
    }

    /// Changes to headers.
    pub(crate) struct Headers {
        /// Of the request, before it goes to the service.
        request: Option<HeaderEdits>,
        /// Of the response, before it goes to the client.
        response: Option<HeaderEdits>,
    }

    /// Removals first, then `set`, then `add`.
    pub(crate) struct HeaderEdits {
        /// Put in place of what is there.
        set: Option<Map<HeaderText>>,
        /// Put beside what is there.
        add: Option<Map<HeaderText>>,
        /// Taken away.
        remove: Option<OneOrMany<At<FieldName>>>,
    }

    /// Changes to path and Host.
    pub(crate) struct Rewrite {
        /// Takes this prefix away from the path.
        strip_prefix: Option<At<UrlPath>>,
        /// Puts this in place of the matched prefix.
        prefix: Option<At<UrlPath>>,
        /// The Host sent upstream. Default: the client's.
        host: Option<At<String>>,
    }

    /// Sends copies of requests to another service, whose answers nobody sees.
    pub(crate) struct Mirror {
        /// The service that gets them: its stable release.
        service: At<String>,
        /// The share of requests that are copied. Default: 100%.
        share: Option<At<Ratio>>,
        /// Requests with a larger body are not copied. At most 1MiB; default: 64KiB.
        body_limit: Option<At<ByteSize>>,
    }

    /// Name and password (RFC 7617).
    pub(crate) struct BasicAuth {
        /// What the browser shows. Default: restricted.
        realm: Option<At<String>>,
        /// User to bcrypt or argon2 hash.
        users: Option<At<Map<At<String>>>>,
        /// More users, as lines of `name:hash` (htpasswd). The file is watched.
        users_file: Option<At<FilePath>>,
    }

    /// What answers while the route is switched off.
    pub(crate) struct Maintenance {
        /// Whether it is switched off; `gateway maintenance` outranks it. Default: false.
        on: Option<bool>,
        /// Default: 503.
        status: Option<Status>,
        /// A text, or a mapping that is sent as JSON. Default: the gateway's own JSON, or page for browsers.
        body: Option<BodyText>,
        /// A file of HTML for clients that prefer it, as browsers do; watched for changes. Default: they get `body`.
        page: Option<At<FilePath>>,
        /// Sent as Retry-After. Default: until a switch thrown for a time ends, else not sent.
        retry_after: Option<Period>,
        /// Clients that pass all the same. Default: none.
        allow: Option<AtLeastOne<Cidr>>,
    }

    /// A rate limit.
    pub(crate) struct RateLimit {
        /// Whose requests are counted together: client_ip, route, global, header:NAME or cookie:NAME.
        key: LimitKey,
        /// How many in how long.
        rate: Rate,
        /// How many at once. Default: as many as `rate` has in its period.
        burst: Option<At<u32>>,
        /// `local`, or `fleet` to count over all gateways. Default: local.
        scope: Option<At<LimitScope>>,
        /// What holds while the shared store is away: local, allow or deny. Default: local.
        when_store_down: Option<StoreDown>,
        /// Counts and reports, and lets everything pass. Default: false.
        dry_run: Option<bool>,
    }
}
