//! A real browser without a window: Chromium, spoken to by the Chrome DevTools Protocol over two pipes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long the browser may take for one answer, its start included. Long, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// The browser and one page of it; both are gone when this is dropped.
pub(crate) struct Browser {
    process: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    last: u64,
    page: String,
    /// What has happened and was no answer.
    events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        // It reads what it is told from descriptor 3, and answers on 4.
        let script = "exec chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run \
            --disable-dev-shm-usage --disable-background-networking --user-data-dir=\"$0\" \
            --remote-debugging-pipe 3<&0 4>&1 >/dev/null 2>&1 </dev/null";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(profile.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let (tell, messages) = channel();
        thread::spawn(move || {
            for message in BufReader::new(output).split(0).map_while(Result::ok) {
                if tell.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
            }
        });
        let (page, events) = (String::new(), Vec::new());
        let mut browser = Self { process, input, messages, last: 0, page, events, _profile: profile };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", &target);
        browser.page = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Opens a file in a window of that width, in CSS pixels, and waits until all of it is there.
    pub(crate) fn open(&mut self, file: &Path, width: u32) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let url = format!("file://{}", file.display());
        let navigated = self.call("Page.navigate", &json!({ "url": url }));
        assert_eq!(navigated.get("errorText"), None, "{navigated}");
        let deadline = Instant::now() + PATIENCE;
        let loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().any(loaded) {
            let event = self.next(deadline);
            self.events.push(event);
        }
        self.events.retain(|event| !loaded(event));
    }

    /// What an expression of JavaScript is.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let what = json!({ "expression": expression, "returnByValue": true });
        let result = self.call("Runtime.evaluate", &what);
        assert_eq!(result.get("exceptionDetails"), None, "{result}");
        result["result"]["value"].clone()
    }

    /// A picture of the whole page, as PNG.
    pub(crate) fn picture(&mut self) -> Vec<u8> {
        let what = json!({ "format": "png", "captureBeyondViewport": true });
        let size = self.call("Page.getLayoutMetrics", &json!({}))["cssContentSize"].clone();
        let clip = json!({
            "x": 0, "y": 0, "scale": 1, "width": size["width"], "height": size["height"],
        });
        let mut what = what;
        what["clip"] = clip;
        let picture = self.call("Page.captureScreenshot", &what);
        STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()
    }

    /// What the page has written to the console, or had written there by the browser, and its exceptions.
    pub(crate) fn complaints(&self) -> Vec<&Value> {
        let complaints = ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"];
        let is_one = |event: &&Value| complaints.iter().any(|method| event["method"] == *method);
        self.events.iter().filter(is_one).collect()
    }

    /// The addresses that the page was loaded from, and all that it has.
    pub(crate) fn requests(&self) -> Vec<&str> {
        let requests = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        requests.map(|event| event["params"]["request"]["url"].as_str().unwrap()).collect()
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.page.is_empty() {
            message["sessionId"] = self.page.as_str().into();
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.input.write_all(&bytes).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.next(deadline);
            if answer["id"] == self.last {
                assert_eq!(answer.get("error"), None, "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn next(&self, deadline: Instant) -> Value {
        match self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => panic!("the browser doesn't answer"),
            Err(RecvTimeoutError::Disconnected) => panic!("the browser has ended"),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
