//! Who may use the API, and what it says to what it cannot do.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Daemon, Sprite, TOKEN, json};

fn daemon() -> Daemon {
    let config = json!({"sprite_name": "mine"});
    let daemon = Sprite::new()
        .config(&config)
        .command(&["sleep", "1000"])
        .api()
        .start();
    daemon.wait_running();
    daemon
}

#[test]
fn the_token_is_needed_everywhere_but_for_health() {
    let daemon = daemon();
    let client = daemon.client();
    for (method, path) in [
        ("GET", "/status"),
        ("POST", "/exec"),
        ("POST", "/checkpoint"),
        ("GET", "/checkpoints"),
        ("GET", "/checkpoints/v0"),
        ("DELETE", "/checkpoints/v0"),
        ("POST", "/checkpoints/v0/restore"),
        ("POST", "/restore"),
        ("POST", "/process/start"),
        ("GET", "/v1/sprites/mine/status"),
        ("GET", "/no/such/path"),
    ] {
        client
            .send(method, path, &[], b"")
            .assert_problem(401, "Missing or invalid");
        let wrong = [("authorization", "Bearer wrong")];
        client
            .send(method, path, &wrong, b"")
            .assert_problem(401, "Missing or invalid");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(client.send("GET", path, &[], b"").status, 200);
    }
}

#[test]
fn four_ways_to_send_the_token() {
    let daemon = daemon();
    let client = daemon.client();
    let right = [
        ("authorization", format!("Bearer {TOKEN}")),
        ("authorization", format!("bearer  {TOKEN}")),
        // base64 of "bearer:test-token"
        ("authorization", "Basic YmVhcmVyOnRlc3QtdG9rZW4=".to_owned()),
        (
            "fly-replay-src",
            format!("instance=1;region=x;state=api:{TOKEN}"),
        ),
        ("fly-replay-src", format!("state={TOKEN}")),
    ];
    for (name, value) in &right {
        let answer = client.send("GET", "/status", &[(name, value)], b"");
        assert_eq!(answer.status, 200, "{name}: {value}");
    }
    // A wrong one beside a right one does no harm.
    let both = [
        ("authorization", "Bearer wrong"),
        ("fly-replay-src", right[4].1.as_str()),
    ];
    assert_eq!(client.send("GET", "/status", &both, b"").status, 200);
    let wrong = [
        ("authorization", format!("Bearer {TOKEN}x")),
        ("authorization", TOKEN.to_owned()),
        // base64 of "root:test-token"
        ("authorization", "Basic cm9vdDp0ZXN0LXRva2Vu".to_owned()),
        ("fly-replay-src", format!("state=other:{TOKEN}")),
    ];
    for (name, value) in &wrong {
        let answer = client.send("GET", "/status", &[(name, value)], b"");
        answer.assert_problem(401, "Missing or invalid");
    }
}

#[test]
fn wrong_paths_and_methods() {
    let daemon = daemon();
    let client = daemon.client();
    client
        .get("/no/such/path")
        .assert_problem(404, "there is nothing at /no/such/path");
    client
        .get("/v1/sprites/mine/nothing")
        .assert_problem(404, "there is nothing at");
    client
        .get("/v1/sprites/yours/status")
        .assert_problem(404, "this one is \"mine\"");
    assert_eq!(
        client.get("/v1/sprites/mine/status").json()["state"],
        client.status()["state"]
    );
    for (method, path) in [
        ("PUT", "/exec"),
        ("GET", "/checkpoint"),
        ("POST", "/checkpoints"),
        ("GET", "/restore"),
        ("DELETE", "/status"),
        ("POST", "/healthz"),
    ] {
        client
            .request(method, path, b"")
            .assert_problem(405, "Method not allowed");
    }
}

#[test]
fn status_tells_the_state_of_everything() {
    let config = json!({"components": {"c": {"start_command": ["sleep", "1000"]}}});
    let daemon = Sprite::new()
        .config(&config)
        .command(&["sleep", "1000"])
        .api()
        .start();
    daemon.wait_running();
    let status = daemon.client().status();
    assert_eq!(status["state"], "Online > Serving > Running");
    assert_eq!(status["operation"], "Idle");
    assert_eq!(status["process"]["state"], "Up > Running");
    assert!(status["process"]["uptime"].as_f64().unwrap() > 0.0);
    let pid = status["process"]["pid"].as_i64().unwrap();
    assert!(crate::support::is_alive(pid.try_into().unwrap()));
    assert_eq!(status["components"]["c"]["state"], "Up > Ready");
    let accepted = [
        "checkpoint",
        "restore",
        "stop process",
        "restart process",
        "start component",
        "stop component",
        "restart component",
        "shutdown",
    ];
    assert_eq!(status["accepted"], json!(accepted));
    let text = daemon.client().get("/status").text;
    assert!(!text.contains(TOKEN));
}

#[test]
fn checkpoints_that_are_off_say_how_to_turn_them_on() {
    let daemon = daemon();
    let client = daemon.client();
    client
        .post("/checkpoint", &json!({}))
        .assert_problem(503, "SPRITE_WRITE_DIR");
    client
        .get("/checkpoints")
        .assert_problem(503, "SPRITE_WRITE_DIR");
}

#[test]
fn a_request_that_comes_early_is_held() {
    let config = json!({"components": {"slow": {
        "start_command": ["sleep", "1000"],
        "ready_command": ["sh", "-c", "until [ -e go ]; do sleep 0.01; done"],
    }}});
    let daemon = Sprite::new()
        .config(&config)
        .command(&["sleep", "1000"])
        .api()
        .start();
    let client = daemon.client();
    assert_eq!(client.get("/healthz").status, 200);
    // The API is there before anything starts.
    daemon.wait_for("StartingComponents");
    client
        .get("/readyz")
        .assert_problem(503, "StartingComponents");
    let held = client.clone();
    let held = std::thread::spawn(move || held.sh("echo held"));
    std::fs::write(daemon.sprite.path("go"), "").unwrap();
    assert_eq!(held.join().unwrap().stdout, "held\n");
}

#[test]
fn a_hold_ends_with_503() {
    let config = json!({
        "components": {"slow": {
            "start_command": ["sleep", "1000"], "ready_command": ["sleep", "1000"],
        }},
        "limits": {"hold": "100ms"},
    });
    let daemon = Sprite::new()
        .config(&config)
        .command(&["sleep", "1000"])
        .api()
        .start();
    let answer = daemon.client().post("/exec", &json!({"command": ["true"]}));
    answer.assert_problem(503, "StartingComponents");
}

#[test]
fn a_unix_socket_needs_no_token() {
    let sprite = Sprite::new().command(&["sleep", "1000"]);
    let socket = sprite.path("api.sock");
    let listen = format!("unix:{}", socket.display());
    let mut daemon = sprite.arg("-listen").arg(&listen).start();
    daemon.wait_running();
    let curl = std::process::Command::new("curl")
        .args([
            "-sS",
            "--unix-socket",
            socket.to_str().unwrap(),
            "http://sprite/status",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(curl.stdout).unwrap();
    assert!(text.contains("Online > Serving > Running"), "{text}");
    assert_eq!(
        socket.metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );
    daemon.stop(143);
    assert!(!socket.exists());
}

#[test]
fn what_is_not_built_says_so() {
    let mut daemon = Sprite::new().idle();
    let client = daemon.client();
    for path in ["/policy/network", "/policy/resources", "/suspend", "/sync"] {
        client.get(path).assert_problem(501, "not built yet");
        client
            .post(path, &json!({}))
            .assert_problem(501, "not built yet");
    }
    for path in ["/upgrade", "/restart"] {
        client
            .post(path, &json!({}))
            .assert_problem(501, "cannot be changed");
    }
    client
        .post("/v1/sprites", &json!({"name": "another"}))
        .assert_problem(400, "one environment");
    daemon.stop(143);
}

/// The methods that a path of the OpenAPI document can have.
const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

#[test]
fn the_openapi_document_is_valid_and_says_what_is_served() {
    let mut daemon = Sprite::new().arg("-debug").storage().idle();
    let client = daemon.client();
    let answer = client.send("GET", "/openapi.json", &[], b"");
    assert_eq!(
        (answer.status, answer.kind.as_str()),
        (200, "application/json")
    );
    let document = answer.json();
    for (path, operations) in document["paths"].as_object().unwrap() {
        // Nothing has this id or is of this kind, so nothing happens; but it is served.
        let real = path.replace("{id}", "nothing").replace("{kind}", "network");
        let real = real.replace("{name}", "nobody");
        for method in METHODS {
            let described = operations.get(method).is_some();
            // These take any method, to say that they are not built.
            let is_any = ["/policy/{kind}", "/suspend", "/sync"].contains(&path.as_str());
            let starts = [
                "/events",
                "/process/start",
                "/checkpoint",
                "/debug/create-zombie",
            ];
            if is_any || (described && starts.contains(&path.as_str())) {
                continue;
            }
            let answer = client.request(&method.to_uppercase(), &real, b"");
            // That one is served to be refused.
            let is_refused = (path.as_str(), method) == ("/v1/sprites/{name}", "delete");
            let is_served = answer.status != 405 || is_refused;
            if !is_served {
                answer.assert_problem(405, "the header Allow lists what can");
            }
            assert_eq!(described, is_served, "{method} {path}: {answer:?}");
        }
    }
    if let Some(python) = crate::sdks::tool("python/bin/python") {
        let path = daemon.sprite.path("openapi.json");
        std::fs::write(&path, &answer.text).unwrap();
        let checked = std::process::Command::new(python)
            .args(["-m", "openapi_spec_validator"])
            .arg(path)
            .output()
            .unwrap();
        assert!(checked.status.success(), "{checked:?}");
    }
    daemon.stop(143);
}
