//! Many commands at once, while components crash.

use crate::support::{Sprite, json};

#[test]
fn two_hundred_commands_at_once_while_components_crash() {
    let config = json!({"components": {
        "crashing": {
            "start_command": ["sh", "-c", "sleep 0.02; exit 1"],
            "on_failure": "restart",
            "backoff": {"min": "1ms", "max": "5ms", "max_restarts": 255, "reset_after": "1ms"},
        },
        "steady": {"start_command": ["sleep", "1000"]},
    }});
    let daemon = Sprite::new()
        .config(&config)
        .command(&["sleep", "1000"])
        .api()
        .start();
    let client = daemon.client();
    std::thread::scope(|scope| {
        for worker in 0..200 {
            let client = client.clone();
            scope.spawn(move || {
                for round in 0..3 {
                    let text = format!("worker {worker} round {round}");
                    let script = format!(
                        "echo {text}; head -c 100000 /dev/zero | tr '\\0' x; exit {}",
                        worker % 200
                    );
                    let outcome = client.sh(&script);
                    assert_eq!(outcome.code, worker % 200, "{:?}", outcome.errors);
                    assert_eq!(outcome.stdout, format!("{text}\n{}", "x".repeat(100_000)));
                }
            });
        }
    });
    let status = client.status();
    assert_eq!(status["process"]["restarts"], 0);
    assert_eq!(status["components"]["steady"]["restarts"], 0);
    while client.status()["sessions"] != 0 {
        std::thread::yield_now();
    }
}
