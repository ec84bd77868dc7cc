use super::super::tests::{Admin, Answer as Received};
use super::*;

async fn put(admin: &Admin, route: &str, body: &str) -> Received {
    let head = format!(
        "PUT /v1/routes/{route}/maintenance HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer hunter2\r\n\
         Content-Type: application/json\r\nContent-Length: {}",
        body.len()
    );
    admin.send_with(&head, body).await
}

async fn read_route(admin: &Admin, route: &str) -> Value {
    admin.read(&format!("/v1/routes/{route}/maintenance")).await
}

#[tokio::test]
async fn a_switch_that_is_thrown_is_seen_everywhere_with_its_end() {
    let admin = Admin::start().await;
    let file =
        json!({"route": "api", "on": false, "by": "file", "file": false, "since": null, "until": null});
    assert_eq!(read_route(&admin, "api").await, file);
    assert_eq!(admin.read("/v1/status").await["maintenance"], json!([]));

    let answer = put(&admin, "api", r#"{"on": true, "expires": "1h"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let told: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((&told["on"], &told["by"], &told["saved"]), (&json!(true), &json!("switch"), &json!(true)));
    assert!(told["until"].as_str() > told["since"].as_str(), "{told}");
    let line = read_route(&admin, "api").await;
    assert_eq!(admin.read("/v1/status").await["maintenance"], json!([line]));
    let routes = admin.read("/v1/routes").await;
    let api = routes["routes"].as_array().expect("a list").iter().find(|route| route["name"] == "api");
    assert_eq!(api.expect("the route")["maintenance"]["until"], told["until"]);
    let switches = admin.read("/v1/switches").await;
    assert_eq!((&switches["kill"], &switches["maintenance"]), (&json!(false), &json!([line])));
    assert_eq!(
        (&switches["history"][0]["to"], &switches["history"][0]["by"]),
        (&json!("on"), &json!("hand"))
    );

    assert_eq!(put(&admin, "api", r#"{"on": null}"#).await.status, 200);
    assert_eq!(read_route(&admin, "api").await, file);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let admin = Admin::start().await;
    for (body, word) in [
        ("{}", "on"),
        (r#"{"on": true, "expires": "0s"}"#, "over at once"),
        (r#"{"on": true, "expires": 30}"#, "expires"),
        (r#"{"on": null, "expires": "1h"}"#, "no end"),
        (r#"{"on": true, "until": "1h"}"#, "until"),
    ] {
        let answer = put(&admin, "api", body).await;
        assert!((400..500).contains(&answer.status), "{body}: {}", answer.status);
        assert!(answer.body.contains(word), "`{word}` in {}", answer.body);
    }
    let unknown = put(&admin, "apy", r#"{"on": true}"#).await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.body.contains("did you mean `api`?"), "{}", unknown.body);
    assert_eq!(admin.read("/v1/switches").await["history"], json!([]));
}

#[tokio::test]
async fn throwing_needs_the_token() {
    let admin = Admin::start().await;
    let head = "PUT /v1/routes/api/maintenance HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 12";
    assert_eq!(admin.send_with(head, r#"{"on": true}"#).await.status, 401);
    assert_eq!(read_route(&admin, "api").await["on"], false);
}
