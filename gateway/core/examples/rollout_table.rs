//! Prints the tables of `docs/rollouts.md`: how soon a bad canary is rolled back, and how seldom a good one.
//!
//! `cargo run --release -p gateway-core --example rollout_table`

#[path = "../tests/support/simulation.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the tests, which use all of it")]
mod simulation;

use simulation::{Ills, delays, false_alarms, guard, p95_limit};

const RUNS: u64 = 1001;

fn main() {
    println!(
        "Canary attempts until rollback (max 1 %, confidence 99.9 %, stable fails 0.1 %), {RUNS} runs each\n"
    );
    println!(
        "| canary fails | share | from the start: median | 95 % | after 5 000 good ones: median | 95 % |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    for share in [10.0, 50.0, 100.0] {
        for fails in [1.0, 0.5, 0.2, 0.1, 0.05] {
            let ills = Ills { canary_fails: fails, stable_fails: 0.001, canary_slow: 0.0, stable_slow: 0.0 };
            let (start, late) = (row(share, 0, ills), row(share, 5000, ills));
            println!("| {} % | {share} % | {start} | {late} |", fails * 100.0);
        }
    }
    let mut limit = guard(0.01, 0.999);
    limit.latency = p95_limit();
    println!("\np95 limit, 10 % share: canary attempts until rollback\n");
    println!("| slow answers | median | 95 % |\n| ---: | ---: | ---: |");
    for slow in [1.0, 0.5, 0.2] {
        let ills = Ills { canary_slow: slow, ..Ills::default() };
        let delays = delays(RUNS, 10.0, 0, &limit, ills);
        println!("| {} % | {} |", slow * 100.0, quantiles(&delays));
    }
    println!("\nGood canaries rolled back, of 10 000 (confidence 99 %, max 1 %, 20 000 attempts)\n");
    println!("| both arms fail | share | rolled back |\n| ---: | ---: | ---: |");
    for share in [10.0, 50.0] {
        for rate in [0.001, 0.005, 0.01] {
            let alarms = false_alarms(10_000, share, 20_000, &guard(0.01, 0.99), rate);
            println!("| {} % | {share} % | {alarms} |", rate * 100.0);
        }
    }
    let busy = false_alarms(500, 50.0, 1_000_000, &guard(0.05, 0.999), 0.01);
    println!(
        "\nOf 500 busy ones (1 000 000 attempts, 50 % share, both fail 1 %, max 5 %, confidence 99.9 %): {busy}"
    );
}

fn row(share: f64, healthy: u64, ills: Ills) -> String {
    quantiles(&delays(RUNS, share, healthy, &guard(0.01, 0.999), ills))
}

fn quantiles(delays: &[u64]) -> String {
    let at = |quantile: usize| delays[delays.len() * quantile / 100];
    format!("{} | {}", at(50), at(95))
}
