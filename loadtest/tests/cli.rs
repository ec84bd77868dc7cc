//! The binary: what it prints, what it writes, and how it ends.

#![allow(clippy::unwrap_used, reason = "what does not work ends the test")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use loadtest::origin::{Behaviour, Mix, Origin};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments);
    command
}

/// Runs it to its end, away from the runtime that serves the origins.
async fn ended(arguments: &[&str]) -> Output {
    let mut command = command(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Half a second of load, which each test may add to.
async fn run(url: &str, more: &[&str]) -> Output {
    ended(&[&["run", url, "--rate", "200", "--duration", "500ms"], more].concat()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_decides_the_exit_status() {
    let mix: Mix = "200:9,500:1".parse().unwrap();
    let origin = Origin::script(Behaviour::status(200).ending(mix)).named("v42").start().await;
    let url = format!("http://{}/", origin.address());

    let met = run(&url, &["--budget", "errors<50%,max<30s,rate>=1,v42:errors<50%"]).await;
    assert_eq!(met.status.code(), Some(0), "{met:?}");
    assert!(text(&met.stdout).contains("met     errors < 50 %"), "{}", text(&met.stdout));

    let missed = run(&url, &["--budget", "errors<0.1%,max<30s"]).await;
    assert_eq!(missed.status.code(), Some(1), "{missed:?}");
    assert!(text(&missed.stdout).contains("MISSED  errors < 0.1 %"), "{}", text(&missed.stdout));
    assert!(text(&missed.stdout).contains("met     max < 30.00 s"), "{}", text(&missed.stdout));
    assert_eq!(text(&missed.stderr), "loadtest: the budget is missed in 1 of 2 clauses\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_begin_ends_with_2_and_no_connection_with_3() {
    for (arguments, words) in [
        (&["run"][..], "[WEIGHT=]URL"),
        (&["run", "http://h/", "--budget", "p95=2s"], "compares nothing"),
        (&["run", "http://h/", "--picture", "run.jpg"], "its name ends in .svg or .png"),
        (&["run", "http://h/", "--duration", "soon"], "`soon` is not a time"),
        (&["run", "https://h/"], "an https URL needs --cacert FILE or --insecure"),
        (&["run", "ftp://h/"], "`ftp://h/` is not an http or https URL"),
        (&["run", "http://h/path", "--request", "GET /"], "name the server alone"),
        (&["origin", "--mix", "200:many"], "`many` is no weight"),
        (&["origin", "--latency", "normal:1s"], "`normal` is no distribution"),
    ] {
        let output = ended(arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains(words), "{arguments:?}: {}", text(&output.stderr));
    }
    let origin = Origin::always(200).start().await;
    let url = format!("http://{}/", origin.address());
    origin.stop().await;
    let nobody = run(&url, &["--budget", "errors<=100%"]).await;
    assert_eq!(nobody.status.code(), Some(3), "{nobody:?}");
    assert!(text(&nobody.stderr).contains("not one request had a connection: 127.0.0.1:"), "{nobody:?}");
    assert!(text(&nobody.stderr).contains("refused"), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mix_goes_where_its_weights_say_and_keys_take_turns() {
    let (one, two) =
        (Origin::always(200).named("one").start().await, Origin::always(200).named("two").start().await);
    let urls = [format!("3=http://{}", one.address()), format!("http://{}", two.address())];
    let requests = ["--request", "3=GET /items", "--request", "POST /orders an order"];
    let keys = ["--key-header", "x-api-key", "--keys", "4", "--progress"];
    let output = run(&urls[0], &[&[urls[1].as_str()][..], &requests, &keys].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(one.hits() + two.hits(), 100);
    assert!((72..=78).contains(&one.hits()), "{} of 100", one.hits());
    let mut asked = one.requests();
    asked.extend(two.requests());
    let orders: Vec<_> = asked.iter().filter(|request| request.path == "/orders").collect();
    assert!((22..=28).contains(&orders.len()), "{} of 100", orders.len());
    assert!(orders.iter().all(|order| order.method == "POST" && order.text() == "an order"));
    for key in ["key-1", "key-2", "key-3", "key-4"] {
        assert_eq!(
            asked.iter().filter(|request| request.header("x-api-key") == Some(key)).count(),
            25,
            "{key}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_and_picture_tell_of_releases_over_time() {
    let behaviour = Behaviour::status(200).ending("200:1,503:1".parse().unwrap()).header("x-version", "v<7>");
    let origin = Origin::script(behaviour).start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let url = format!("http://{}/", origin.address());
    for name in ["run.svg", "run.png"] {
        let more =
            ["--release-header", "x-version", "--picture", &file(name), "--json", "--out", &file("run.json")];
        let output = run(&url, &[&more[..], &["--budget", "errors<1%", "--ramp", "200ms"]].concat()).await;
        assert_eq!(text(&output.stdout), std::fs::read_to_string(file("run.json")).unwrap());
    }
    let told: Value = serde_json::from_slice(&std::fs::read(file("run.json")).unwrap()).unwrap();
    assert_eq!(told["summary"]["requests"], 80, "a ramp of 200 ms saves 20 of 100");
    let release = &told["summary"]["releases"]["v<7>"];
    let failed = release["statuses"]["503"].as_u64().unwrap();
    assert_eq!(release["statuses"]["200"].as_u64().unwrap() + failed, 80);
    assert!(told["summary"]["latency"]["p99"].as_f64().unwrap() > 0.0);
    assert_eq!(
        (&told["budget"][0]["clause"], &told["budget"][0]["met"]),
        (&"errors < 1 %".into(), &false.into())
    );
    let slices = told["series"]["slices"].as_array().unwrap();
    let in_slices: u64 =
        slices.iter().map(|slice| slice["releases"]["v<7>"]["requests"].as_u64().unwrap_or(0)).sum();
    assert!(slices.len() >= 3 && in_slices == 80, "{slices:?}");

    let svg = std::fs::read_to_string(file("run.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains(">v&lt;7&gt;</text>"), "{svg}");
    let png = std::fs::read(file("run.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000);
}

/// The binary while it serves; killed with its value.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself, which its test then says.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Serving {
    /// Starts it, and reads the addresses of so many listeners.
    fn start(arguments: &[&str], listeners: usize) -> (Self, Vec<String>) {
        let mut child = command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = |line: String| line.split(" listens on ").nth(1).unwrap().to_owned();
        let addresses = lines.take(listeners).map(|line| address(line.unwrap())).collect();
        (Self(child), addresses)
    }
}

async fn ask(address: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // A reset is an answer too: an empty one.
    let _ = stream.read_to_string(&mut answer).await;
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
}

#[tokio::test]
async fn origins_change_while_they_run_and_tell_what_they_did() {
    let arguments = ["origin", "--listen", "v41=127.0.0.1:0", "--listen", "v42=127.0.0.1:0"];
    let more = ["--fail-from", "2", "--fail-with", "503", "--control", "127.0.0.1:0"];
    let (_serving, addresses) = Serving::start(&[&arguments[..], &more].concat(), 3);
    let [v41, v42, control] = &addresses[..] else { panic!("{addresses:?}") };
    for expected in [200, 503, 503] {
        assert_eq!(ask(v41, "GET", "/", "").await.0, expected);
    }
    assert_eq!(ask(control, "PUT", "/v42", r#"{"mix": "418", "headers": {"x-a": "b"}}"#).await.0, 200);
    assert_eq!(ask(v42, "GET", "/", "").await.0, 418);
    assert_eq!(ask(v41, "GET", "/", "").await.0, 503, "only v42 was changed");
    assert_eq!(ask(control, "PUT", "/v42", r#"{"mix": "reset"}"#).await.0, 200);
    assert_eq!(ask(v42, "GET", "/", "").await.0, 0);
    assert_eq!(ask(control, "PUT", "/", r#"{"mix": "truncate", "body_bytes": 1000}"#).await.0, 200);
    let (status, body) = ask(v41, "GET", "/", "").await;
    assert_eq!((status, body.len()), (200, 500));

    let (status, told) = ask(control, "GET", "/", "").await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(status, 200);
    assert_eq!(told["v41"]["endings"].to_string(), r#"{"200":1,"503":3,"truncate":1}"#);
    assert_eq!(told["v42"]["endings"].to_string(), r#"{"418":1,"reset":1}"#);
    assert_eq!((&told["v41"]["requests"], &told["v41"]["plan"]["mix"]), (&5.into(), &"truncate:1".into()));

    for (method, path, body, status, words) in [
        ("PUT", "/v42", r#"{"mixx": "200"}"#, 400, "unknown field `mixx`"),
        ("PUT", "/v42", r#"{"latency": "fast"}"#, 400, "`fast` is not a time"),
        ("PUT", "/v42", r#"{"headers": {"a b": "c"}}"#, 400, "`a b: c` is not a field"),
        ("GET", "/v43", "", 404, "no origin `v43`; there are v41, v42"),
        ("DELETE", "/", "", 405, "GET tells, PUT changes"),
    ] {
        let answer = ask(control, method, path, body).await;
        assert_eq!(answer.0, status, "{method} {path} {body}");
        assert!(answer.1.contains(words), "{}", answer.1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_run_still_tells_what_came_of_it() {
    let origin = Origin::always(200).start().await;
    let url = format!("http://{}/", origin.address());
    let arguments = ["run", &url, "--rate", "100", "--duration", "10m", "--budget", "errors<0.1%"];
    let mut running = Serving(command(&arguments).stdout(Stdio::piped()).spawn().unwrap());
    while origin.hits() < 10 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let killed = Command::new("kill").args(["-INT", &running.0.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let stdout = running.0.stdout.take().unwrap();
    let told = tokio::task::spawn_blocking(move || std::io::read_to_string(stdout).unwrap()).await.unwrap();
    assert!(told.contains("answered") && told.contains("met     errors < 0.1 %"), "{told}");
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}
