//! gRPC: HTTP/2 on both sides, with trailers.

use http::Method;

use crate::support::certificates::origin_tls;
use crate::support::{Behaviour, Gateway, Origin, one_origin};

const H2C: &str = r#"
services:
  api: { endpoints: ["{origin}"], protocol: h2c }
routes:
  all: { match: { host: shop.example }, service: api }
"#;

#[tokio::test]
async fn messages_stream_and_the_status_comes_in_the_trailers() {
    let origin = Origin::script(Behaviour::grpc(0)).start().await;
    let gateway = Gateway::run(one_origin(&origin).with_yaml(H2C)).await;
    let request = gateway.request(Method::POST, "/shop.Orders/Watch").http2();
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    let mut upload = request.upload().await;
    assert!(upload.send("first").await);
    let mut answer = upload.started().await.unwrap();
    assert_eq!(answer.headers["content-type"], "application/grpc");
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "first");
    assert!(upload.send("second").await);
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "second");
    upload.end();
    let answer = answer.finish().await.unwrap();
    assert_eq!(answer.broken, None);
    assert_eq!(answer.trailers["grpc-status"], "0");
    let seen = origin.last_request();
    assert_eq!((seen.version, seen.header("te")), (http::Version::HTTP_2, Some("trailers")));
}

#[tokio::test]
async fn a_status_other_than_ok_passes_too_over_tls() {
    let origin = Origin::script(Behaviour::grpc(14)).tls(origin_tls(&["h2"])).start().await;
    let yaml = H2C.replace("protocol: h2c", "protocol: h2, tls: { ca: certs/ca.pem, sni: shop.example }");
    let gateway = Gateway::run(one_origin(&origin).with_yaml(yaml)).await;
    let answer = gateway.post("/shop.Orders/Get", "m").http2().header("te", "trailers").await;
    assert_eq!((answer.status.as_u16(), &answer.trailers["grpc-status"]), (200, &"14".parse().unwrap()));
}
