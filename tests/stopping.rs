//! What is run before something is told to go, and how it is told.

use crate::support::{Sprite, json};

#[test]
fn what_is_to_be_run_before_a_stop_is_run_before() {
    let config = json!({
        "process_pre_stop": {"command": ["sh", "-c", "echo before main >>log; sleep 0.1"]},
        "components": {"c": {
            "start_command": ["sh", "-c", "trap 'echo c told >>log; exit 0' TERM; touch up; \
                                           while :; do sleep 0.02; done"],
            "ready": {"command": ["test", "-e", "up"]},
            "pre_stop": {"command": ["sh", "-c", "sleep 0.1; echo before c >>log"]},
        }},
    });
    let main = "trap 'echo main told >>log; exit 0' TERM; touch main; \
                while :; do sleep 0.02; done";
    let mut daemon = Sprite::new().config(&config).script(main).start();
    daemon.wait_running();
    crate::support::wait_for_file_to_exist(&daemon.sprite.path("main"));
    daemon.stop(0);
    let log = std::fs::read_to_string(daemon.sprite.path("log")).unwrap();
    assert_eq!(log, "before main\nmain told\nbefore c\nc told\n");
}

#[test]
fn a_command_that_takes_too_long_before_a_stop_is_killed() {
    let config = json!({
        "process_pre_stop": {"command": ["sh", "-c", "sleep 1000"], "timeout": "50ms"},
    });
    let mut daemon = Sprite::new()
        .config(&config)
        .command(&["sleep", "1000"])
        .start();
    daemon.wait_running();
    daemon.stop(143);
    daemon.wait_for("the pre_stop of main process takes longer than 50ms, and is killed");
}

#[test]
fn a_process_that_ends_while_it_is_prepared_for_the_stop_is_not_waited_for() {
    let config = json!({
        "process_pre_stop": {"command": ["sh", "-c", "touch end; sleep 1000"], "timeout": "900s"},
    });
    let main = "while [ ! -e end ]; do sleep 0.02; done; exit 6";
    let mut daemon = Sprite::new().config(&config).script(main).start();
    daemon.wait_running();
    daemon.stop(6);
}

#[test]
fn a_component_is_stopped_by_its_command() {
    let component = |stop: &str| {
        json!({"components": {"c": {
            "start_command": ["sh", "-c", "trap 'echo by signal >>log; exit 0' TERM; touch up; \
                while [ ! -e stop ]; do sleep 0.02; done; echo by command >>log"],
            "ready": {"command": ["test", "-e", "up"]},
            "stop_command": ["sh", "-c", stop],
        }}})
    };
    for (stop, how) in [("touch stop", "by command\n"), ("exit 1", "by signal\n")] {
        let mut daemon = Sprite::new()
            .config(&component(stop))
            .command(&["sleep", "1000"])
            .start();
        daemon.wait_running();
        daemon.stop(143);
        let log = std::fs::read_to_string(daemon.sprite.path("log")).unwrap();
        assert_eq!(log, how);
    }
}

#[test]
fn a_process_that_ends_with_a_code_of_success_is_not_restarted() {
    let config = json!({
        "process_restart_max_retries": 5, "process_success_exit_codes": [3, 143],
    });
    let (code, text) = Sprite::new()
        .config(&config)
        .script("echo run; exit 3")
        .run();
    assert_eq!(code, 3);
    assert_eq!(text.matches("run\n").count(), 1, "{text}");
}
