//! Our exit code is the main process's, exactly.

use crate::support::{Sprite, json};

#[test]
fn every_exit_code_is_passed_on() {
    // All at once would be 256 daemons; a few threads are as good.
    let codes: Vec<i32> = (0..=255).collect();
    std::thread::scope(|scope| {
        for some in codes.chunks(64) {
            scope.spawn(move || {
                for code in some {
                    let (got, text) = Sprite::new().script(&format!("exit {code}")).run();
                    assert_eq!(got, *code, "{text}");
                }
            });
        }
    });
}

#[test]
fn a_signal_is_128_and_its_number() {
    for signal in [1, 2, 3, 6, 9, 10, 11, 13, 14, 15, 34, 64] {
        let script = format!("kill {signal}, $$; sleep 100");
        let (code, text) = Sprite::new().command(&["perl", "-e", &script]).run();
        assert_eq!(code, 128 + signal, "{text}");
    }
}

#[test]
fn commands_that_cannot_be_run() {
    let (code, text) = Sprite::new().command(&["/no/such/program"]).run();
    assert_eq!(code, 127);
    assert!(text.contains("cannot run \"/no/such/program\""), "{text}");
    let (code, text) = Sprite::new().command(&["/etc/passwd"]).run();
    assert_eq!(code, 126, "{text}");
}

#[test]
fn exit_codes_can_be_mapped() {
    let config = json!({"exit_code_map": {"42": 0, "0": 5}});
    assert_eq!(Sprite::new().config(&config).script("exit 42").run().0, 0);
    assert_eq!(Sprite::new().config(&config).script("exit 0").run().0, 5);
    assert_eq!(Sprite::new().config(&config).script("exit 1").run().0, 1);
    // A flag replaces what the file says.
    let run = |script: &str| {
        let sprite = Sprite::new().config(&config).script(script);
        sprite.arg("-exit-code-map=7:0,143:9").run().0
    };
    assert_eq!((run("exit 7"), run("exit 42")), (0, 42));
    assert_eq!(run("kill $$; sleep 9"), 9);
}

#[test]
fn an_error_is_retried_as_often_as_configured() {
    let config = json!({"process_restart_max_retries": 3, "process_restart_backoff_max": "10ms"});
    let mut daemon = Sprite::new()
        .config(&config)
        .script("echo x >>runs; exit 9")
        .start();
    assert_eq!(daemon.wait(), 9);
    let runs = || std::fs::read_to_string(daemon.sprite.path("runs")).unwrap();
    assert_eq!(runs().lines().count(), 4);
    // A success is not repeated.
    let script = "echo x >>runs; [ $(wc -l <runs) -ge 2 ]";
    let mut daemon = Sprite::new().config(&config).script(script).start();
    assert_eq!(daemon.wait(), 0);
    let runs = std::fs::read_to_string(daemon.sprite.path("runs")).unwrap();
    assert_eq!(runs.lines().count(), 2);
}

#[test]
fn kept_alive_on_error_until_it_is_started_again() {
    let script = "echo x >>runs; [ $(wc -l <runs) -ge 2 ] || exit 5; exec sleep 1000";
    let sprite = Sprite::new()
        .script(script)
        .api()
        .env("SPRITE_KEEP_ALIVE_ON_ERROR", "true");
    let mut daemon = sprite.start();
    daemon.wait_for("the system is Online > Parked");
    let client = daemon.client();
    let status = client.status();
    assert_eq!(status["process"]["last_exit"], "exit code 5");
    assert_eq!(status["last_failure"], "main process ended: exit code 5");
    assert_eq!(client.get("/readyz").status, 503);
    // The API is alive: this is what it is for.
    assert_eq!(client.sh("echo still here").stdout, "still here\n");
    let accepted = client.post("/process/start", &json!({}));
    assert_eq!(accepted.status, 200, "{}", accepted.text);
    daemon.wait_running();
    client
        .post("/process/start", &json!({}))
        .assert_problem(409, "not possible while");
    daemon.stop(143);
}

#[test]
fn kept_alive_on_error_ends_on_success_all_the_same() {
    let sprite = Sprite::new()
        .script("exit 0")
        .env("SPRITE_KEEP_ALIVE_ON_ERROR", "true");
    assert_eq!(sprite.run().0, 0);
}
