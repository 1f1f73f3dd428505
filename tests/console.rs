//! The console page, in a real browser.

use std::fs;

use crate::support::browser::Browser;
use crate::support::http::Client;
use crate::support::juicefs::reconfigure;
use crate::support::{Daemon, Sprite, TOKEN, Value, json};

/// A daemon with two components, checkpoints, and something to restore.
fn daemon() -> Daemon {
    let daemon = Sprite::new()
        .storage()
        .api()
        .config(&json!({
            "process_command": ["sleep", "1000"],
            "components": {
                "database": {"start_command": ["sleep", "1000"]},
                "cache": {"start_command": ["sleep", "1000"], "needs": ["database"]},
            },
        }))
        .start();
    daemon.wait_running();
    daemon
}

/// Opens the console, which asks for the token.
fn open(browser: &Browser, daemon: &Daemon) {
    browser.open(&format!("{}/console", daemon.client().base()));
    browser.wait("!document.querySelector('#token').hidden");
}

/// A window of this size with the console of such a daemon, signed in.
fn signed_in(width: u32, height: u32) -> Option<(Browser, Daemon)> {
    let (browser, daemon) = (Browser::start(width, height)?, daemon());
    open(&browser, &daemon);
    give_token(&browser, TOKEN);
    shows(&browser, "Online › Serving › Running");
    Some((browser, daemon))
}

fn give_token(browser: &Browser, token: &str) {
    browser.run(&format!(
        "document.querySelector('#token input').value = '{token}'; \
         document.querySelector('#token button').click()"
    ));
}

/// Waits until the page says that the system is in this state, and marks its place in the chart.
fn shows(browser: &Browser, path: &str) {
    let leaf = path.rsplit(' ').next().unwrap();
    browser.wait(&format!(
        "document.querySelector('#state').textContent === '{path}' && \
         document.querySelector('#system-state-{leaf}.now')"
    ));
}

fn click(browser: &Browser, label: &str) {
    let found = format!(
        "[...document.querySelectorAll('button')].find((it) => \
         it.textContent === '{label}' && !it.disabled && it.offsetParent)"
    );
    browser.wait(&found);
    browser.run(&format!("{found}.click()"));
}

/// Waits for what came of it.
fn outcome(browser: &Browser, words: &str) {
    browser.wait(&format!(
        "document.querySelector('#outcome').textContent.includes('{words}')"
    ));
}

fn choose_step(browser: &Browser, machine: &str, event: &str) {
    browser.run(&format!(
        "[...document.querySelectorAll('#steps tbody tr')].find((row) => \
         row.cells[2].textContent === '{machine}' && row.cells[3].textContent === '{event}').click()"
    ));
}

#[test]
fn it_shows_what_happens_and_does_what_it_is_asked_for() {
    let Some(browser) = Browser::start(1400, 1000) else {
        return;
    };
    let mut daemon = daemon();
    let (client, dir) = (daemon.client(), daemon.sprite.path("data/fs"));
    fs::write(dir.join("file"), "before").unwrap();
    open(&browser, &daemon);
    give_token(&browser, "another");
    browser.wait("document.querySelector('#token [role=alert]').textContent.includes('invalid')");
    // The browser complains of the answer itself.
    let complaints = browser.complaints();
    assert!(
        complaints.iter().all(|it| it.contains("401")),
        "{complaints:?}"
    );
    give_token(&browser, TOKEN);
    shows(&browser, "Online › Serving › Running");
    let title = browser.run("return document.title");
    assert_eq!(title, "Online › Serving › Running – sprite-env");
    for (machine, state) in [
        ("process", "Running"),
        ("operation", "Idle"),
        ("component-0", "Ready"),
        ("component-1", "Ready"),
    ] {
        browser.wait(&format!(
            "document.querySelector('#{machine}-state-{state}.now')"
        ));
    }
    // The arrow of the last step, and what is possible now.
    browser.wait("document.querySelector('#system-edge-StartingProcess-Running.taken')");
    browser.wait("document.querySelector('#awaited').textContent.includes('Shutdown')");
    browser.picture("console");

    browser.run("document.querySelector('#checkpoints').open = true");
    browser.run("document.querySelector('#actions input').value = 'from the page'");
    click(&browser, "Take a checkpoint");
    outcome(&browser, "Checkpoint v0 created successfully");
    assert_eq!(
        client.get("/checkpoints/v0").json()["comment"],
        "from the page"
    );
    shows(&browser, "Online › Serving › Running");
    browser.wait("document.querySelector('#checkpoints td').textContent === 'v0'");

    // The past: a step is chosen, and the charts show its moment.
    choose_step(&browser, "system", "Checkpoint");
    browser.wait("document.querySelector('#system-state-Checkpointing.now')");
    browser.wait("document.querySelector('#past').innerText.includes('step')");
    let key = "new KeyboardEvent('keydown', {key: 'ArrowDown', bubbles: true})";
    browser.run(&format!(
        "document.querySelector('#steps tbody').dispatchEvent({key})"
    ));
    browser.wait("document.querySelector('#system-state-Running.now')");
    for _ in 0..40 {
        browser.run(&format!(
            "document.querySelector('#steps tbody').dispatchEvent({key})"
        ));
    }
    // At the oldest step the keys stay in the past.
    browser.wait("document.querySelector('#system-state-StartingComponents.now')");
    browser.picture("console-past");
    click(&browser, "Back to now");
    shows(&browser, "Online › Serving › Running");

    fs::write(dir.join("file"), "after").unwrap();
    click(&browser, "Restore v0");
    click(&browser, "No");
    click(&browser, "Restore v0");
    click(&browser, "Yes");
    outcome(&browser, "Restore from v0 complete");
    browser.wait("document.querySelectorAll('#checkpoints tr').length === 2");
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "before");

    // A component is stopped by its own button.
    let button = "[...document.querySelectorAll('#parts details')]\
                  .find((it) => it.querySelector('b').textContent === 'cache')\
                  ?.querySelectorAll('.buttons button')[1]";
    browser.wait(&format!("{button} && !{button}.disabled"));
    browser.run(&format!("{button}.click()"));
    browser.wait("document.querySelector('#component-0-state-Stopped.now')");
    outcome(&browser, "Stop cache: done");
    assert_eq!(client.status()["components"]["cache"]["state"], "Stopped");
    let complaints = browser.complaints();
    assert_eq!(complaints, Vec::<String>::new());

    daemon.stop(143);
    browser.wait("!document.querySelector('#connection').hidden");
    browser.wait("document.title.startsWith('not connected')");
}

#[test]
fn it_finds_back_to_a_daemon_that_was_started_anew() {
    let Some((browser, mut daemon)) = signed_in(1000, 800) else {
        return;
    };
    let base = daemon.client().base().to_owned();
    let address = base.strip_prefix("http://").unwrap();
    daemon.stop(143);
    browser.wait("!document.querySelector('#connection').hidden");
    let sprite = daemon.into_sprite().arg("-listen").arg(address);
    let daemon = sprite.env("SPRITE_HTTP_API_TOKEN", TOKEN).start();
    daemon.wait_running();
    browser.wait("document.querySelector('#connection').hidden");
    shows(&browser, "Online › Serving › Running");
    daemon.client().post("/process/stop", &json!({}));
    browser.wait("document.querySelector('#process-state-Stopped.now')");
    // Another configuration has other machines.
    reconfigure(&daemon.sprite, |config| {
        config["components"] = json!({"other": {"start_command": ["sleep", "1000"]}});
    });
    let reloaded = daemon.client().post("/config/reload", &json!({}));
    assert_eq!(reloaded.status, 200, "{}", reloaded.text);
    browser.wait(
        "[...document.querySelectorAll('#parts b')].map((it) => it.textContent).join() === \
         'operation,process,other'",
    );
    browser.wait("document.querySelector('#component-0-state-Ready.now')");
    browser.run("document.querySelector('#failures').click()");
    browser.wait("document.querySelectorAll('#steps tbody tr').length === 0");
}

#[test]
fn it_is_of_use_on_a_telephone() {
    let Some((browser, _daemon)) = signed_in(400, 800) else {
        return;
    };
    browser.wait("document.querySelector('#component-1-state-Ready.now')");
    let width = browser.run("return document.documentElement.scrollWidth");
    assert!(width.as_u64().unwrap() <= 400, "{width}");
    browser.picture("console-narrow");
}

#[test]
fn a_journal_from_a_file_is_looked_at() {
    let Some((browser, _daemon)) = signed_in(1200, 900) else {
        return;
    };
    let journal = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/machines/tests/journals/run-00.jsonl"
    );
    let journal = fs::read_to_string(journal).unwrap();
    let look_at = |text: &str| {
        browser.run(&format!(
            "const files = new DataTransfer(); \
             files.items.add(new File([{}], 'journal.jsonl')); \
             const input = document.querySelector('#open'); \
             input.files = files.files; input.dispatchEvent(new Event('change'))",
            Value::from(text)
        ));
    };
    look_at("no journal");
    outcome(&browser, "journal.jsonl cannot be looked at");
    look_at(&journal);
    browser.wait("document.querySelector('#past').innerText.includes('A journal from a file')");
    choose_step(&browser, "system", "Boot");
    browser.wait("document.querySelector('#system-state-StartingComponents.now')");
    // One arrow, and only its steps.
    let arrow = "document.querySelector('#system-edge-StartingProcess-Running')";
    browser.run(&format!("{arrow}.dispatchEvent(new Event('click'))"));
    browser.wait(
        "[...document.querySelectorAll('#steps tbody tr')].every((row) => \
         row.cells[4].textContent === 'StartingProcess → Running')",
    );
    click(&browser, "Back to now");
    shows(&browser, "Online › Serving › Running");
}

#[test]
fn its_parts_need_no_token_and_tell_nothing() {
    let daemon = daemon();
    let base = daemon.client().base().to_owned();
    let client = Client::new(base, None);
    for (part, kind) in [
        ("", "text/html; charset=utf-8"),
        ("/console.js", "text/javascript; charset=utf-8"),
        ("/console.css", "text/css; charset=utf-8"),
        ("/system.svg", "image/svg+xml"),
        ("/charts.json", "application/json"),
    ] {
        let answer = client.get(&format!("/console{part}"));
        assert_eq!((answer.status, answer.kind.as_str()), (200, kind), "{part}");
        assert!(!answer.text.contains(TOKEN));
    }
    client
        .get("/console/other.svg")
        .assert_problem(404, "other.svg");
    client
        .post("/console", &json!({}))
        .assert_problem(405, "POST");
    client.get("/status").assert_problem(401, "Authorization");
}
