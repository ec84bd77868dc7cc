//! The commands, run as people run them.

use std::fs;

use crate::support::{Config, Gateway, ONE_ORIGIN, Origin, Place, one_origin};

/// A directory with a good configuration and no gateway running.
fn place() -> Place {
    Place::new(Config::new(ONE_ORIGIN).value("origin", "127.0.0.1:9"))
}

fn bad_place() -> Place {
    let yaml = ONE_ORIGIN.replace("service: api }", "service: ap }").replace("routes:", "rutes: {}\nroutes:");
    Place::new(Config::new(yaml).value("origin", "127.0.0.1:9"))
}

#[tokio::test]
async fn check_passes_a_good_file_beside_a_running_gateway() {
    let origin = Origin::always(200).start().await;
    let gateway = Gateway::run(one_origin(&origin)).await;
    let check = gateway.command(&["check"]).await;
    assert_eq!(check.code(), 0, "{check:?}");
    assert_eq!(gateway.command(&["check", "-c", "gateway.yaml"]).await.code(), 0);
}

#[tokio::test]
async fn check_reports_every_error_with_its_place() {
    let check = bad_place().command(&["check"]).await;
    assert_eq!(check.code(), 1, "{check:?}");
    let text = check.text();
    for word in ["rutes", "did you mean", "`ap`", "gateway.yaml:"] {
        assert!(text.to_lowercase().contains(word), "`{word}` in {text}");
    }
    let check = bad_place().command(&["check", "--format", "json"]).await;
    assert_eq!(check.code(), 1);
    let diagnostics = check.json()["diagnostics"].as_array().unwrap().clone();
    assert!(diagnostics.len() >= 2, "{diagnostics:?}");
    for diagnostic in &diagnostics {
        assert!(diagnostic["code"].is_string() && diagnostic["message"].is_string(), "{diagnostic}");
    }
}

#[tokio::test]
async fn check_opens_certificates_and_names_a_missing_file() {
    let place = place();
    fs::remove_file(place.file("certs/shop.pem")).unwrap();
    let check = place.command(&["check"]).await;
    assert_eq!(check.code(), 1, "{check:?}");
    assert!(check.text().contains("certs/shop.pem"), "{check:?}");
    let missing = place.command(&["check", "-c", "nowhere.yaml"]).await;
    assert_eq!(missing.code(), 1);
    assert!(missing.text().contains("nowhere.yaml"), "{missing:?}");
}

#[tokio::test]
async fn explain_says_what_the_gateway_does() {
    let origin = Origin::always(200).named("api").start().await;
    let yaml = r#"
services:
  api: { endpoints: ["{api}"] }
routes:
  login: { match: { host: shop.example, path: /api/login, methods: [POST] }, service: api }
  api: { match: { host: shop.example, prefix: /api }, service: api }
"#;
    let gateway = Gateway::run(Config::new(yaml).origin(&origin)).await;
    for (arguments, word) in [
        (&["explain", "https://shop.example/api/login", "-X", "POST"][..], "login"),
        (&["explain", "https://shop.example/api/login"], "api"),
        (&["explain", "https://shop.example/x/../api/y"], "/api/y"),
    ] {
        for extra in [&[][..], &["-c", "gateway.yaml"]] {
            let explain = gateway.command(&[arguments, extra].concat()).await;
            assert_eq!(explain.code(), 0, "{explain:?}");
            assert!(explain.stdout.contains(word), "`{word}` in {}", explain.stdout);
        }
    }
    let json =
        gateway.command(&["explain", "https://shop.example/api/login", "-X", "POST", "--json"]).await.json();
    assert_eq!(json["route"], "login", "{json}");
    let none = gateway.command(&["explain", "https://shop.example/elsewhere"]).await;
    assert!(none.text().contains("404") || none.text().contains("no route"), "{none:?}");
}

#[tokio::test]
async fn status_tells_what_runs_and_fails_when_nothing_does() {
    let origin = Origin::always(200).named("api").start().await;
    let gateway = Gateway::run(one_origin(&origin)).await;
    let status = gateway.command(&["status"]).await;
    assert_eq!(status.code(), 0, "{status:?}");
    assert!(gateway.command(&["status", "--json"]).await.json().is_object());

    let place = place();
    let status = place.command(&["status"]).await;
    assert_eq!(status.code(), 3, "{status:?}");
    assert!(status.stderr.contains(&place.admin()), "the address is named: {status:?}");
    assert_eq!(place.command(&["reload"]).await.code(), 3);
}

#[tokio::test]
async fn the_schema_is_the_committed_one() {
    let schema = place().command(&["schema"]).await;
    assert_eq!(schema.code(), 0, "{schema:?}");
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/gateway.schema.json");
    let committed: serde_json::Value = serde_json::from_str(&fs::read_to_string(committed).unwrap()).unwrap();
    assert_eq!(schema.json(), committed, "config/gateway.schema.json is what `gateway schema` prints");
}

#[tokio::test]
async fn init_and_cert_dev_make_what_check_passes() {
    let place = place();
    fs::remove_file(place.file("gateway.yaml")).unwrap();
    fs::remove_dir_all(place.file("certs")).unwrap();
    let init = place.command(&["init"]).await;
    assert_eq!(init.code(), 0, "{init:?}");
    let written = fs::read_to_string(place.file("gateway.yaml")).unwrap();
    let certificates = place.command(&["cert", "dev"]).await;
    assert_eq!(certificates.code(), 0, "{certificates:?}");
    let check = place.command(&["check"]).await;
    assert_eq!(check.code(), 0, "{check:?}");

    let again = place.command(&["init"]).await;
    assert_eq!(again.code(), 1, "{again:?}");
    assert_eq!(fs::read_to_string(place.file("gateway.yaml")).unwrap(), written);
}

#[tokio::test]
async fn certificates_for_development_are_kept_and_their_keys_private() {
    use std::os::unix::fs::PermissionsExt;
    let place = place();
    let make = async || place.command(&["cert", "dev", "--out", "dev", "app.localhost"]).await;
    assert_eq!(make().await.code(), 0);
    let authority = fs::read(place.file("dev/ca.pem")).unwrap();
    assert_eq!(make().await.code(), 0);
    assert_eq!(fs::read(place.file("dev/ca.pem")).unwrap(), authority);
    for key in ["ca.key", "key.pem"] {
        let mode = fs::metadata(place.file("dev").join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{key}: {mode:o}");
    }
}

#[tokio::test]
async fn completions_and_help_name_every_command() {
    let place = place();
    let completions = place.command(&["completions", "bash"]).await;
    let help = place.command(&["--help"]).await;
    assert_eq!((completions.code(), help.code()), (0, 0));
    let commands = "run check reload status explain maintenance schema init cert completions";
    for command in commands.split(' ') {
        assert!(help.stdout.contains(&format!("  {command} ")), "{command} in {}", help.stdout);
        assert!(completions.stdout.contains(command), "{command}");
    }
}

#[tokio::test]
async fn a_wrong_command_line_is_2() {
    let place = place();
    for arguments in [&["explode"][..], &["check", "--format", "poem"], &["explain", "/no-host"], &[]] {
        let end = place.command(arguments).await;
        assert_eq!(end.code(), 2, "{arguments:?}: {end:?}");
    }
}
