//! `gateway demo`, as a newcomer runs it.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long the demo may take by its own promise.
const LIMIT: Duration = Duration::from_secs(180);

fn start(directory: &tempfile::TempDir) -> Child {
    Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(["demo", "--json", "--port", "0", "--rate", "100"])
        .env("TMPDIR", directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn is_empty(directory: &tempfile::TempDir) -> bool {
    directory.path().read_dir().unwrap().next().is_none()
}

#[tokio::test]
async fn the_demo_promotes_a_good_release_and_rolls_a_bad_one_back_unseen() {
    let directory = tempfile::tempdir().unwrap();
    let Output { status, stdout, stderr } =
        timeout(LIMIT, start(&directory).wait_with_output()).await.expect("it ends by itself").unwrap();
    let told = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{status}\n{told}");
    for words in ["promoted", "rolled back", "failed requests users saw", "stays rolled back"] {
        assert!(told.contains(words), "`{words}` in\n{told}");
    }
    assert!(!told.contains('\x1b'), "colours without a terminal\n{told}");

    let numbers: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(numbers["promoted"]["release"], "shop-2");
    assert_eq!(numbers["rolled_back"]["release"], "shop-3");
    let failures = numbers["rolled_back"]["failures"].as_u64().unwrap();
    assert!((5..=15).contains(&failures), "5 and what was in flight: {numbers}");
    assert_eq!(numbers["users"]["failed"], 0, "{numbers}");
    assert!(numbers["users"]["requests"].as_u64().unwrap() > 1000, "{numbers}");
    assert_eq!(numbers["after_rollback"]["to_rolled_back"], 0, "{numbers}");
    assert!(numbers["after_rollback"]["requests"].as_u64().unwrap() > 0, "{numbers}");
    assert!(is_empty(&directory));
}

#[tokio::test]
async fn an_interrupted_demo_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut demo = start(&directory);
    let mut lines = BufReader::new(demo.stderr.take().unwrap()).lines();
    let under_way = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("first users") {
                return;
            }
        }
        panic!("the demo ended before it began");
    };
    timeout(LIMIT, under_way).await.expect("it begins");
    let id = i32::try_from(demo.id().unwrap()).unwrap();
    // SAFETY: a plain system call; the child was not waited for, so the id is its own.
    unsafe { libc::kill(id, libc::SIGINT) };
    let status = timeout(LIMIT, demo.wait()).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(is_empty(&directory));
}
