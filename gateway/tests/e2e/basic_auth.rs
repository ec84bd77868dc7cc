//! `basic_auth`: who passes, what is told to whoever does not, and what a flood of guesses costs everybody else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Error;

use crate::support::websocket::WebSocket;
use crate::support::{Behaviour, Config, Gateway, Origin, Place, own_answer, refused_start};

/// Of `hunter2`.
const HUNTER2: &str = "$2b$05$/jQrg5sCP.PtZI5ZOfpr1.3vYFueTtRI5dx2SHfDANmH.c7EhWPDi";
/// Of `letmein`.
const LETMEIN: &str = "$2y$05$gLhudBMfbYGeH6TgCJIk9etxXfvFYmcGJlRSYalotKEwnyJG21flG";
/// Of `correct horse`.
const CORRECT_HORSE: &str =
    "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$rAjuexKlLdAHLvqk7TeeiWZjW4OPoRGwldJXdHbTuKI";
/// Of `hunter2`, with 2¹² rounds.
const SLOW_HUNTER2: &str = "$2b$12$4NX/pPq5AHlYEbYrmbTLk.tOtq3w1NvmzmM44PQdmk1hwGTp3Q91e";

const CHALLENGE: &str = "Basic realm=\"shop\", charset=\"UTF-8\"";

/// Everything asks for a name and a password, but for what is below `/open`.
fn asking(auth: &str, origin: &Origin) -> Config {
    let yaml = format!(
        "services: {{ api: {{ endpoints: [\"{{origin}}\"] }} }}\n\
         routes:\n\
         \x20 open: {{ match: {{ prefix: /open }}, service: api }}\n\
         \x20 all: {{ service: api, basic_auth: {{ realm: shop, {auth} }} }}\n"
    );
    Config::new(yaml).value("origin", origin.address())
}

async fn behind(auth: &str) -> (Gateway, Origin) {
    let origin = Origin::always(200).start().await;
    (Gateway::run(asking(auth, &origin)).await, origin)
}

fn two_users() -> String {
    format!("users: {{ ann: '{HUNTER2}', zoë: '{CORRECT_HORSE}' }}")
}

/// What a browser sends.
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

async fn status(gateway: &Gateway, user: &str, password: &str) -> u16 {
    gateway.get("/").header("authorization", &basic(user, password)).await.status.as_u16()
}

#[tokio::test]
async fn users_pass_with_their_own_password_and_nobody_else_does() {
    let (gateway, origin) = behind(&two_users()).await;
    for http2 in [false, true] {
        let ask = async |authorization: &str| {
            let request = gateway.get("/").header("authorization", authorization);
            if http2 { request.http2() } else { request }.await
        };
        for (user, password) in [("ann", "hunter2"), ("zoë", "correct horse"), ("ann", "hunter2")] {
            assert_eq!(ask(&basic(user, password)).await.status, 200, "{user}");
        }
        for authorization in [
            &*basic("ann", "hunter3"),
            &basic("ann", "correct horse"),
            &basic("ann", ""),
            &basic("Ann", "hunter2"),
            &basic("nobody", "hunter2"),
            &basic("", ""),
            "Basic",
            "Basic !!!",
            "Basic YW5u",
            "Bearer YW5uOmh1bnRlcjI=",
        ] {
            let refused = ask(authorization).await;
            assert_eq!(refused.status, 401, "{authorization}");
            assert_eq!(refused.header("www-authenticate"), Some(CHALLENGE), "{authorization}");
            assert_eq!(own_answer(&refused)["error"], "unauthorized", "{authorization}");
        }
    }
    let both = gateway.get("/").header("authorization", &basic("ann", "hunter2"));
    assert_eq!(both.header("authorization", &basic("ann", "x")).await.status, 401, "said twice");
    assert_eq!(origin.hits(), 6);
}

#[tokio::test]
async fn each_decision_is_counted_and_each_refusal_has_its_word() {
    let (gateway, _origin) = behind(&two_users()).await;
    let browser = gateway.get("/missing").header("accept", "text/html").await;
    assert_eq!(
        (browser.status.as_u16(), browser.header("content-type")),
        (401, Some("text/html; charset=utf-8"))
    );
    gateway.get("/wrong").header("authorization", &basic("ann", "x")).await;
    gateway.get("/right").header("authorization", &basic("ann", "hunter2")).await;
    for (path, termination, user) in
        [("/missing", "denied", None), ("/wrong", "denied", None), ("/right", "ok", Some("ann"))]
    {
        let line = gateway.logged(path).await;
        assert_eq!(
            (line["termination"].as_str(), line["user"].as_str()),
            (Some(termination), user),
            "{path}"
        );
    }
    let metrics = gateway.metrics().await;
    for (decision, count) in [("missing", 1.0), ("refused", 1.0), ("passed", 1.0), ("overloaded", 0.0)] {
        let labels = [("route", "all"), ("decision", decision)];
        assert_eq!(metrics.sum("auth_decisions_total", &labels), count, "{decision}");
    }
}

#[tokio::test]
async fn credentials_go_no_further_and_the_name_does_where_it_is_asked_for() {
    let origin = Origin::always(200).start().await;
    let config = asking(&two_users(), &origin).replace(
        "service: api, basic",
        "service: api, headers: { request: { set: { x-user: '${user}' } } }, basic",
    );
    let gateway = Gateway::run(config).await;
    for http2 in [false, true] {
        let request = gateway.get("/").header("authorization", &basic("ann", "hunter2"));
        let request = request.header("x-user", "root");
        assert_eq!(if http2 { request.http2() } else { request }.await.status, 200);
        let seen = origin.last_request();
        assert_eq!((seen.header("authorization"), seen.header("x-user")), (None, Some("ann")));
    }
    gateway.get("/open").header("authorization", "Bearer token").await;
    assert_eq!(origin.last_request().header("authorization"), Some("Bearer token"), "not ours to take");
}

#[tokio::test]
async fn no_answer_to_head_has_a_body_and_answers_of_the_gateway_are_guarded_too() {
    let origin = Origin::always(200).start().await;
    let config =
        asking(&two_users(), &origin).replace("all: { service: api", "all: { redirect: { to: /open }");
    let gateway = Gateway::run(config).await;
    let head = gateway.request(Method::HEAD, "/").await;
    assert_eq!(
        (head.status.as_u16(), head.header("www-authenticate"), head.body.len()),
        (401, Some(CHALLENGE), 0)
    );
    assert_eq!(gateway.get("/").await.status, 401);
    assert_eq!(status(&gateway, "ann", "hunter2").await, 302);
}

#[tokio::test]
async fn a_websocket_opens_for_users_alone() {
    let origin = Origin::script(Behaviour::websocket()).start().await;
    let gateway = Gateway::run(asking(&two_users(), &origin)).await;
    match WebSocket::connect(gateway.tls(), "/ws", &[]).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 401),
        other => panic!("not refused: {:?}", other.map(|_| "open")),
    }
    // ann:hunter2
    let fields = [("authorization", "Basic YW5uOmh1bnRlcjI=")];
    let mut socket = WebSocket::connect(gateway.tls(), "/ws", &fields).await.unwrap();
    assert_eq!(socket.echo("hello").await, "hello");
    assert_eq!(origin.last_request().header("authorization"), None);
}

#[tokio::test]
async fn a_preflight_carries_no_password_and_a_page_may_read_the_refusal() {
    let origin = Origin::always(200).start().await;
    let config = asking(&two_users(), &origin).replace(
        "service: api, basic",
        "service: api, cors: { origins: ['https://app.shop.example'], credentials: true }, basic",
    );
    let gateway = Gateway::run(config).await;
    let preflight = gateway.request(Method::OPTIONS, "/").header("origin", "https://app.shop.example");
    assert_eq!(preflight.header("access-control-request-method", "GET").await.status, 204);
    let refused = gateway.get("/").header("origin", "https://app.shop.example").await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://app.shop.example"));
}

#[tokio::test]
async fn a_rate_limit_bounds_guesses_before_any_is_checked() {
    let origin = Origin::always(200).start().await;
    let config =
        asking(&two_users(), &origin).replace("service: api, basic", "service: api, limits: [login], basic");
    let config = config.replace("routes:", "rate_limits: { login: { key: client_ip, rate: 2/h } }\nroutes:");
    let gateway = Gateway::run(config).await;
    let guesses = [("ann", "a"), ("ann", "b"), ("ann", "hunter2")];
    let mut seen = Vec::new();
    for (user, password) in guesses {
        seen.push(status(&gateway, user, password).await);
    }
    assert_eq!(seen, [401, 401, 429]);
    assert_eq!(gateway.metrics().await.sum("auth_decisions_total", &[]), 2.0);
}

#[tokio::test]
async fn a_flood_of_guesses_is_bounded_and_disturbs_nobody_else() {
    const GUESSES: usize = 200;
    let (gateway, _origin) = behind(&format!("users: {{ ann: '{SLOW_HUNTER2}' }}")).await;
    assert_eq!(status(&gateway, "ann", "hunter2").await, 200, "remembered from here on");
    let mut flood = JoinSet::new();
    for number in 0..GUESSES {
        let (user, password) = (if number % 2 == 0 { "ann" } else { "bob" }, format!("guess-{number}"));
        let guess = gateway.get("/guess").header("authorization", &basic(user, &password));
        flood.spawn(async move { guess.await });
    }
    gateway.counted("auth_decisions_total", &[("decision", "overloaded")], 1.0).await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/open").await.status, 200);
        assert_eq!(status(&gateway, "ann", "hunter2").await, 200);
    }
    let decided = gateway.metrics().await;
    let decided: f64 = ["refused", "overloaded"]
        .iter()
        .map(|decision| decided.sum("auth_decisions_total", &[("decision", decision)]))
        .sum();
    assert!(decided < GUESSES as f64, "all that was answered while guesses were waiting");
    let (mut refused, mut overloaded) = (0, 0);
    while let Some(answer) = flood.join_next().await {
        let answer = answer.unwrap();
        match answer.status.as_u16() {
            401 => refused += 1,
            503 => {
                assert_eq!(own_answer(&answer)["error"], "auth_overloaded");
                assert_eq!(answer.header("retry-after"), Some("5"));
                overloaded += 1;
            }
            other => panic!("{other}: {answer:?}"),
        }
    }
    assert!(
        refused > 0 && overloaded >= GUESSES - 66 - refused,
        "{refused} refused, {overloaded} overloaded"
    );
    let words: Vec<_> = gateway.access_log().iter().map(|line| line["termination"].clone()).collect();
    assert!(words.contains(&"auth_overloaded".into()), "{words:?}");
    assert_eq!(status(&gateway, "ann", "hunter2").await, 200);
}

/// A gateway whose users, but for one, stand in the file `users` with these lines.
async fn with_file(lines: &str) -> (Gateway, Origin) {
    let origin = Origin::always(200).start().await;
    let place =
        Place::new(asking(&format!("users: {{ zoë: '{CORRECT_HORSE}' }}, users_file: users"), &origin));
    fs::write(place.file("users"), lines).unwrap();
    (Gateway::run_in(place).await, origin)
}

#[tokio::test]
async fn a_file_of_users_is_taken_up_when_it_changes() {
    let (gateway, _origin) = with_file(&format!("# staff\n\nann:{HUNTER2}\n")).await;
    assert_eq!(
        (status(&gateway, "ann", "hunter2").await, status(&gateway, "bob", "letmein").await),
        (200, 401)
    );
    assert_eq!(status(&gateway, "zoë", "correct horse").await, 200, "whom the configuration names");
    fs::write(gateway.place().file("users"), format!("ann:{LETMEIN}\nbob:{LETMEIN}\n")).unwrap();
    gateway.eventually("bob may come", async || status(&gateway, "bob", "letmein").await == 200).await;
    let ann = (status(&gateway, "ann", "hunter2").await, status(&gateway, "ann", "letmein").await);
    assert_eq!(ann, (401, 200), "what was remembered of the old password is of no use");
    fs::write(gateway.place().file("users"), format!("bob:{LETMEIN}\n")).unwrap();
    gateway.eventually("ann is gone", async || status(&gateway, "ann", "letmein").await == 401).await;
}

#[tokio::test]
async fn a_bad_file_of_users_is_refused_with_its_line_and_the_old_one_holds() {
    let (gateway, _origin) = with_file(&format!("ann:{HUNTER2}\n")).await;
    let file = gateway.place().file("users");
    for (lines, told) in [
        (format!("ann:{HUNTER2}\nbob:letmein\n"), "users line 2 holds for `bob` not a bcrypt or argon2 hash"),
        (
            "bob:$apr1$x1aWpnXX$BQJgP9B2sWWpvPOdUdWFm0\n".into(),
            "users line 1 holds for `bob` a hash of a kind that is too weak",
        ),
        (format!("zoë:{HUNTER2}\n"), "the user `zoë` stands in"),
        ("# nobody\n".into(), "users names no user"),
    ] {
        fs::write(&file, lines).unwrap();
        let reload = gateway.reload().await;
        assert_eq!(reload.code(), 1, "{told}: {reload:?}");
        let text = reload.text().split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert!(text.contains(told), "{told}: {text}");
        assert_eq!(status(&gateway, "ann", "hunter2").await, 200, "{told}");
    }
    fs::remove_file(&file).unwrap();
    let reload = gateway.reload().await;
    assert!(reload.code() == 1 && reload.text().contains("cannot read"), "{reload:?}");
    assert_eq!(status(&gateway, "ann", "hunter2").await, 200);
    assert!(!gateway.log().contains("hunter2") && !gateway.log().contains(HUNTER2));
}

#[tokio::test]
async fn nothing_starts_without_its_file_of_users() {
    let origin = Origin::always(200).start().await;
    let place = Place::new(asking("users_file: users", &origin));
    let refused = async |told: &str| {
        let ended = refused_start(&place).await;
        assert_eq!(ended.code(), 1, "{ended:?}");
        assert!(ended.text().contains("gateway::file") && ended.text().contains(told), "{ended:?}");
    };
    refused("cannot read").await;
    fs::create_dir(place.file("users")).unwrap();
    refused("cannot read").await;
    fs::remove_dir(place.file("users")).unwrap();
    fs::write(place.file("users"), b"ann:\xff\xfe\n").unwrap();
    refused("cannot read").await;
    fs::write(place.file("users"), "ann\n").unwrap();
    refused("is not `name:hash`").await;
    fs::write(place.file("users"), format!("ann:{HUNTER2}\n")).unwrap();
    fs::set_permissions(place.file("users"), fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything.
    if fs::read(place.file("users")).is_err() {
        refused("cannot read").await;
    }
}

#[tokio::test]
async fn hashes_are_not_shown_and_explain_names_the_users() {
    let (gateway, _origin) = with_file(&format!("ann:{HUNTER2}\n")).await;
    let shown = gateway.admin("GET", "/v1/config").await.text();
    assert!(shown.contains("zoë") && !shown.contains("argon2id"), "{shown}");
    let explained = gateway.command(&["explain", "https://shop.example/"]).await;
    let told = "name and password for \"shop\" of zoë and those in";
    assert!(explained.stdout.contains(told), "{explained:?}");
}

#[tokio::test]
async fn two_at_once_with_the_same_password_are_checked_once() {
    let (gateway, _origin) = behind(&format!("users: {{ ann: '{SLOW_HUNTER2}' }}")).await;
    let mut page = JoinSet::new();
    for _ in 0..40 {
        let part = gateway.get("/").header("authorization", &basic("ann", "hunter2"));
        page.spawn(async move { part.await.status.as_u16() });
    }
    // Forty such checks, two at a time, would take longer than one may wait.
    let all = tokio::time::timeout(Duration::from_secs(20), page.join_all()).await.unwrap();
    assert_eq!(all, [200; 40]);
}
