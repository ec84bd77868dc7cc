//! A changed file acts; a bad one never does; nothing open is disturbed.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loadtest::load::{Load, Trust};

use crate::support::certificates::certificates;
use crate::support::{Behaviour, Config, Gateway, Origin, Place, eventually};

/// One service whose stable release is named by the file.
const TWO: &str = r#"
services:
  api:
    releases: { a: { endpoints: ["{a}"] }, b: { endpoints: ["{b}"] } }
    stable: a
routes:
  all: { match: { host: shop.example }, service: api }
"#;

struct Changing {
    gateway: Gateway,
    a: Origin,
    b: Origin,
    config: Config,
}

impl Changing {
    async fn start() -> Self {
        Self::with(Behaviour::status(200)).await
    }

    async fn with(behaviour: Behaviour) -> Self {
        let a = Origin::script(behaviour.clone()).named("a").start().await;
        let b = Origin::script(behaviour).named("b").start().await;
        let config = Config::new(TWO).origin(&a).origin(&b);
        let gateway = Gateway::run(&config).await;
        Self { gateway, a, b, config }
    }

    /// The configuration with this release as stable.
    fn stable(&self, name: &str) -> Config {
        self.config.replace("stable: a", &format!("stable: {name}"))
    }

    /// A configuration that must be refused.
    fn bad(&self) -> Config {
        self.config.replace("stable: a", "stable: nowhere")
    }

    async fn serves(&self, name: &str) {
        let what = format!("{name} serves");
        self.gateway.eventually(&what, async || self.gateway.get("/").await.release() == name).await;
    }
}

#[tokio::test]
async fn a_changed_file_acts_by_itself_however_it_is_written() {
    let changing = Changing::start().await;
    changing.gateway.write_config(changing.stable("b"));
    changing.serves("b").await;

    let file = changing.gateway.place().file("gateway.yaml");
    fs::write(&file, changing.gateway.place().render(&changing.config)).unwrap();
    changing.serves("a").await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_so() {
    let changing = Changing::start().await;
    changing.gateway.write_config(changing.bad());
    changing.gateway.counted("config_reloads_total", &[("result", "failure")], 1.0).await;
    assert_eq!(changing.gateway.get("/").await.release(), "a");
    assert_eq!(changing.gateway.admin("GET", "/readyz").await.status, 200);
    let metrics = changing.gateway.metrics().await;
    assert!(metrics.has("config_last_reload_successful", &[]));
    assert_eq!(metrics.sum("config_last_reload_successful", &[]), 0.0);
    assert!(changing.gateway.log().contains("nowhere"), "the log names what is wrong");

    changing.gateway.write_config(changing.stable("b"));
    changing.serves("b").await;
    assert_eq!(changing.gateway.metrics().await.sum("config_last_reload_successful", &[]), 1.0);
}

#[tokio::test]
async fn what_is_not_yaml_or_not_there_or_unreadable_changes_nothing() {
    let changing = Changing::start().await;
    let file = changing.gateway.place().file("gateway.yaml");
    // A file that is no YAML cannot tell where the gateway answers.
    let admin = changing.gateway.place().admin();
    let ask = async || changing.gateway.command(&["reload", "--admin", &admin]).await;
    for (number, bytes) in
        [&b"\xff\xfe\0"[..], b"", b"a: [", b"- 1\n- 2\n", &[b'x'; 4096]].into_iter().enumerate()
    {
        fs::write(&file, bytes).unwrap();
        let reload = ask().await;
        assert_eq!(reload.code(), 1, "bytes {number}: {reload:?}");
        assert_eq!(changing.gateway.get("/").await.release(), "a");
    }
    fs::remove_file(&file).unwrap();
    let reload = ask().await;
    assert_eq!(reload.code(), 1, "{reload:?}");
    assert_eq!(changing.gateway.get("/").await.release(), "a");
    changing.gateway.write_config(changing.stable("b"));
    changing.serves("b").await;
}

#[tokio::test]
async fn reload_prints_what_changed_or_every_error() {
    let changing = Changing::start().await;
    // The watcher may be first; a second reload is asked with something of its own to change.
    changing.gateway.write_config(changing.stable("b"));
    let reload = changing.gateway.reload().await;
    assert_eq!(reload.code(), 0, "{reload:?}");
    changing.serves("b").await;

    let two_errors =
        changing.config.replace("stable: a", "stable: nowhere").replace("service: api", "service: ap");
    changing.gateway.write_config(two_errors);
    let reload = changing.gateway.reload().await;
    assert_eq!(reload.code(), 1);
    for word in ["nowhere", "`ap`", "gateway.yaml"] {
        assert!(reload.text().contains(word), "`{word}` in {}", reload.text());
    }
    assert_eq!(changing.gateway.get("/").await.release(), "b");
}

#[tokio::test]
async fn the_api_tells_what_changed() {
    let changing = Changing::start().await;
    let answer = changing.gateway.admin("POST", "/v1/reload").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json().get("revision").is_some(), "{answer:?}");
    changing.gateway.write_config(changing.bad());
    let answer = changing.gateway.admin("POST", "/v1/reload").await;
    assert_eq!(answer.status, 422);
    let diagnostics = answer.json()["diagnostics"].as_array().unwrap().len();
    assert_eq!(diagnostics, 1, "{answer:?}");
}

#[tokio::test]
async fn sighup_reloads() {
    let changing = Changing::start().await;
    let before = changing.gateway.metrics().await.sum("config_reloads_total", &[]);
    changing.gateway.signal(libc::SIGHUP);
    changing.gateway.counted("config_reloads_total", &[], before + 1.0).await;
    assert_eq!(changing.gateway.get("/").await.status, 200);
}

#[tokio::test]
async fn a_kubernetes_config_map_is_followed() {
    let a = Origin::always(200).named("a").start().await;
    let b = Origin::always(200).named("b").start().await;
    let config = Config::new(TWO).origin(&a).origin(&b);
    let place = Place::new(&config);
    let version = |name: &str, config: &Config| {
        fs::create_dir(place.file(name)).unwrap();
        fs::write(place.file(name).join("gateway.yaml"), place.render(config)).unwrap();
    };
    // Relative paths of the configuration are relative to the file's own name, not to where links lead.
    version("..2026_01", &config);
    version("..2026_02", &config.replace("stable: a", "stable: b"));
    symlink("..2026_01", place.file("..data")).unwrap();
    fs::remove_file(place.file("gateway.yaml")).unwrap();
    symlink("..data/gateway.yaml", place.file("gateway.yaml")).unwrap();
    let gateway = Gateway::run_in(place).await;
    assert_eq!(gateway.get("/").await.release(), "a");

    let file = |name: &str| gateway.place().file(name);
    symlink("..2026_02", file("..data_tmp")).unwrap();
    fs::rename(file("..data_tmp"), file("..data")).unwrap();
    fs::remove_dir_all(file("..2026_01")).unwrap();
    gateway.eventually("the new version serves", async || gateway.get("/").await.release() == "b").await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_and_a_bad_one_is_not() {
    let changing = Changing::start().await;
    let directory = changing.gateway.place().file("certs");
    let shown = async || {
        let stream = changing.gateway.tls().connect().await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let old = shown().await;
    assert_eq!(old, certificates().shop.certificate);

    let renewed = certificates().authority.sign(&["shop.example"]);
    renewed.write(&directory, "shop");
    changing
        .gateway
        .eventually("the renewed certificate is shown", async || shown().await == renewed.certificate)
        .await;

    fs::write(directory.join("shop.key"), &certificates().other.key_pem).unwrap();
    let reload = changing.gateway.reload().await;
    assert_eq!(reload.code(), 1, "a key of another certificate: {reload:?}");
    assert_eq!(shown().await, renewed.certificate);
    fs::write(directory.join("shop.pem"), "nonsense").unwrap();
    assert_eq!(changing.gateway.reload().await.code(), 1);
    assert_eq!(shown().await, renewed.certificate);
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_refused() {
    let changing = Changing::start().await;
    let port = crate::support::ports::Port::reserve();
    let listeners = format!(
        "listeners:\n  https:\n    address: \"{}\"\n    tls: {{ certificates: [ {{ cert: certs/shop.pem, key: certs/shop.key }} ] }}\n",
        port.address()
    );
    changing.gateway.write_config(
        changing.config.with_yaml(format!("{listeners}{TWO}").replace("stable: a", "stable: b")),
    );
    let reload = changing.gateway.reload().await;
    assert_eq!(reload.code(), 1, "{reload:?}");
    assert!(reload.text().contains("https") && reload.text().contains("restart"), "{}", reload.text());
    assert_eq!(changing.gateway.get("/").await.release(), "a");
}

#[tokio::test]
async fn series_of_removed_things_go() {
    let changing = Changing::start().await;
    changing.gateway.get("/").await;
    changing.gateway.counted("http_requests_total", &[("route", "all")], 1.0).await;
    changing.gateway.change_config(changing.config.replace("  all:", "  everything:")).await;
    changing.gateway.get("/").await;
    changing
        .gateway
        .eventually("the old route's series are gone", async || {
            !changing.gateway.metrics().await.has("http_requests_total", &[("route", "all")])
        })
        .await;
}

#[tokio::test]
async fn an_open_websocket_and_a_slow_download_go_on() {
    let download = Behaviour::status(200).drip("piece ", 20, Duration::from_millis(50));
    let a = Origin::script(Behaviour::websocket()).on("/slow", download).named("a").start().await;
    let b = Origin::always(200).named("b").start().await;
    let config = Config::new(TWO).origin(&a).origin(&b);
    let gateway = Gateway::run(&config).await;
    let mut socket = gateway.websocket("/ws").await;
    let mut slow = gateway.get("/slow").start().await.unwrap();
    assert!(slow.chunk().await.unwrap().is_some());

    gateway.change_config(config.replace("stable: a", "stable: b")).await;
    assert_eq!(gateway.get("/").await.release(), "b");
    assert_eq!(socket.echo("still here").await, "still here");
    let rest = slow.finish().await.unwrap();
    assert_eq!((rest.broken, rest.body.len()), (None, 19 * "piece ".len()));
    assert_eq!(socket.echo("and here").await, "and here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_fail_no_request() {
    let changing = Changing::with(Behaviour::echo()).await;
    let mut socket = {
        changing.b.set_behaviour(Behaviour::websocket());
        changing.gateway.change_config(changing.stable("b")).await;
        let socket = changing.gateway.websocket("/ws").await;
        changing.b.set_behaviour(Behaviour::echo());
        socket
    };
    let done = Arc::new(AtomicBool::new(false));
    let load = load(&changing.gateway, Duration::from_secs(120));
    let running = {
        let done = Arc::clone(&done);
        tokio::spawn(async move { load.run_until(move || done.load(Ordering::Relaxed)).await.unwrap() })
    };
    let mut settled_bytes = 0;
    for turn in 0..100 {
        let config = match turn % 3 {
            0 => changing.stable("b"),
            1 => changing.stable("a"),
            _ => changing.bad(),
        };
        changing.gateway.write_config(config);
        let reload = changing.gateway.reload().await;
        assert_eq!(reload.code(), i32::from(turn % 3 == 2), "turn {turn}: {reload:?}");
        if turn == 30 {
            settled_bytes = changing.gateway.rss_bytes();
        }
    }
    done.store(true, Ordering::Relaxed);
    let summary = running.await.unwrap();
    assert_eq!(summary.failed(), 0, "{summary}");
    assert!(summary.answered > 100 && summary.releases.len() == 2, "{summary}");
    assert_eq!(socket.echo("after all that").await, "after all that");
    let grown = changing.gateway.rss_bytes().saturating_sub(settled_bytes);
    assert!(grown < 16 << 20, "memory grew by {grown} bytes over 70 reloads");
}

/// 200 requests a second over TLS for at most this long.
fn load(gateway: &Gateway, longest: Duration) -> Load {
    Load {
        connections: 8,
        trust: Trust::Authority(gateway.place().file("certs/ca.pem")),
        connect_to: Some(gateway.place().https()),
        ..Load::new("https://shop.example/".parse().unwrap(), 200.0, longest)
    }
}

#[tokio::test]
async fn ten_thousand_routes_are_taken_and_served() {
    let origin = Origin::always(200).named("api").start().await;
    let mut yaml = String::from("services:\n  api: { endpoints: [\"{api}\"] }\nroutes:\n");
    for number in 0..10_000 {
        yaml.push_str(&format!(
            "  r{number}: {{ match: {{ host: shop.example, prefix: /p{number} }}, service: api }}\n"
        ));
    }
    let config = Config::new(yaml).origin(&origin);
    let gateway = Gateway::run(&config).await;
    assert_eq!(gateway.get("/p9999/x").await.status, 200);
    gateway.change_config(config.replace("prefix: /p9999 ", "prefix: /last ")).await;
    assert_eq!(
        (gateway.get("/last").await.status.as_u16(), gateway.get("/p9999").await.status.as_u16()),
        (200, 404)
    );
}

#[tokio::test]
async fn every_third_writer_being_careless_ends_in_the_last_good_file() {
    let changing = Changing::start().await;
    for turn in 0..20 {
        let config = if turn % 3 == 0 { changing.bad() } else { changing.stable("b") };
        changing.gateway.write_config(config);
    }
    changing.serves("b").await;
    eventually("the other release is left alone", async || {
        let hits = changing.a.hits();
        changing.gateway.get("/").await;
        changing.a.hits() == hits
    })
    .await;
}
