//! A line of the access log, as benchmarks write it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gateway::telemetry::access_log::{Entry, Timers};
use gateway::telemetry::metrics::RequestMetrics;
use gateway_core::outcome::Termination;
use http::{HeaderValue, Method, StatusCode, Version};

pub(crate) fn entry(served_by: &Arc<RequestMetrics>) -> Entry {
    Entry {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_368_496_789),
        request_id: String::from("0190a5f27d3c7b1e9c1a2f4d6b8e0a1c").into(),
        trace_id: Some(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736),
        client_ip: [192, 0, 2, 7].into(),
        user: None,
        method: Method::GET,
        host: HeaderValue::from_static("shop.example").into(),
        path: "/api/orders/1234".into(),
        protocol: Version::HTTP_2,
        user_agent: Some(HeaderValue::from_static(
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        )),
        status: Some(StatusCode::OK),
        bytes: 5_120,
        served_by: Arc::clone(served_by),
        endpoint: Some("10.0.0.1:8000".into()),
        attempts: 1,
        timers: Timers {
            connect: None,
            first_byte: Some(Duration::from_micros(1_500)),
            total: Duration::from_micros(1_740),
        },
        termination: Termination::Ok,
    }
}
