//! A real browser without a screen, driven by the W3C's `WebDriver` protocol.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::http::Client;
use super::output::Output;
use super::{PATIENCE, Value, json};
use crate::sdks::has;

/// A window; the browser ends with it.
pub struct Browser {
    driver: Child,
    client: Client,
    session: String,
}

/// A driver and its port. It lets the kernel choose one for IPv6, ends if another has the same
/// port for IPv4, and is then started again.
fn start_driver() -> (Child, String) {
    let mut said = String::new();
    for _ in 0..5 {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = Output::default();
        output.collect("chromedriver", driver.stdout.take().unwrap());
        if let Some(line) = output.seek("started successfully on port", 1) {
            let port = line.trim_end_matches('.').rsplit(' ').next().unwrap();
            return (driver, port.to_owned());
        }
        driver.kill().unwrap();
        driver.wait().unwrap();
        said = output.text();
    }
    panic!("chromedriver does not start:\n{said}");
}

impl Browser {
    /// Starts one whose window is so large; none, with the reason printed, if it is not installed.
    pub fn start(width: u32, height: u32) -> Option<Self> {
        if !has("chromedriver") || !has("chromium") {
            return None;
        }
        let (driver, port) = start_driver();
        let client = Client::new(format!("http://127.0.0.1:{port}"), Some("none"));
        let size = format!("--window-size={width},{height}");
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", &size];
        let options = json!({"args": arguments, "mobileEmulation": {
            "deviceMetrics": {"width": width, "height": height, "pixelRatio": 1.0}
        }});
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let mut browser = Self {
            driver,
            client,
            session: "/session".to_owned(),
        };
        let made = browser.post("", &wanted);
        browser.session = format!("/session/{}", made["sessionId"].as_str().unwrap());
        Some(browser)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.client.post(&format!("{}{path}", self.session), body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["value"].clone()
    }

    pub fn open(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    /// What a function's body returns in the page.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until an expression is true in the page.
    pub fn wait(&self, expression: &str) {
        let begun = Instant::now();
        while self.run(&format!("return Boolean({expression})")) != true {
            assert!(
                begun.elapsed() < PATIENCE,
                "never true: {expression}; the page says:\n{}\n{:?}",
                self.run("return document.body.innerText").as_str().unwrap(),
                self.complaints(),
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the browser has complained of, in the page or its requests.
    pub fn complaints(&self) -> Vec<String> {
        let said = self.post("/se/log", &json!({"type": "browser"}));
        let lines = said.as_array().unwrap().iter();
        lines.map(|line| line["message"].to_string()).collect()
    }

    /// Keeps a picture of the window in `target/`, to be looked at.
    pub fn picture(&self, name: &str) {
        use base64::Engine as _;
        let path = format!("{}/screenshot", self.session);
        let encoded = self.client.get(&path).json()["value"].clone();
        let engine = base64::engine::general_purpose::STANDARD;
        let picture = engine.decode(encoded.as_str().unwrap()).unwrap();
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/target/pictures");
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(format!("{dir}/{name}.png"), picture).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It takes the browser along.
        let _ = self.client.attempt("DELETE", &self.session);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
