//! What the commands print for programs, and how many devices are invited at once.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::Value;

use crate::harness::{Agent, Hub, configure, output, sealcast, secret_file, succeed, until};

fn json(hub: &Hub, args: &[&str]) -> Value {
    serde_json::from_str(&hub.operate(&[args, &["--json"]].concat())).unwrap()
}

/// The entry is on the ledger as `receipt` says.
fn is_on_ledger(hub: &Hub, receipt: &Value) {
    let entries = json(hub, &["ledger", "show"]);
    let entry = &entries[usize::try_from(receipt["entry"].as_u64().unwrap()).unwrap()];
    assert_eq!(entry["head"], receipt["head"], "{receipt}");
    assert!(receipt["time_s"].as_u64().is_some_and(|time_s| time_s > 1_700_000_000), "{receipt}");
}

#[test]
fn what_is_written_to_the_ledger_is_told_with_its_entry() {
    let hub = Hub::start();
    let invited = json(&hub, &["device", "add", "1111"]);
    assert!(invited["token"].as_str().is_some_and(|token| token.starts_with("1111.")), "{invited}");
    assert!(invited["expires_s"].as_u64().is_some() && invited["note"].is_null(), "{invited}");
    hub.enroll("1111");
    hub.enroll("1112");
    assert!(json(&hub, &["device", "add", "1111"])["note"].as_str().is_some_and(|note| note.contains("enrolled")));

    let created = json(&hub, &["group", "create", "room", "--filter", "room/#"]);
    assert_eq!((&created["group"], &created["number"]), (&"room".into(), &1.into()));
    is_on_ledger(&hub, &created);
    let granted = json(&hub, &["group", "grant", "room", "1112", "1111"]);
    assert_eq!(granted["written"][1]["device"], "1111");
    is_on_ledger(&hub, &granted["written"][0]);
    is_on_ledger(&hub, &granted["written"][1]);
    let shown = json(&hub, &["group", "show", "room"]);
    assert_eq!(shown["group"]["granted"], serde_json::json!(["1111", "1112"]), "sorted, whoever was granted first");
    let limits = json(&hub, &["group", "limits", "room", "--topic", "room/a", "--topic", "room/b", "--max", "5"]);
    assert_eq!(limits["written"][1]["topic"], "room/b");
    is_on_ledger(&hub, &limits["written"][1]);
    is_on_ledger(&hub, &json(&hub, &["group", "revoke", "room", "1112"])["written"][0]);
    is_on_ledger(&hub, &json(&hub, &["group", "reset", "room"]));
    is_on_ledger(&hub, &json(&hub, &["device", "revoke", "1112", "--reason", "sold"]));

    // What the ledger has is told although it refuses the next one.
    hub.enroll("1113");
    let mut command = hub.command(&["group", "grant", "room", "1113", "1111", "--json"]);
    let refused = output(&mut command);
    let told: Value = serde_json::from_slice(&refused.stdout).unwrap();
    let written = told["written"].as_array().unwrap();
    assert!(!refused.status.success() && written.len() == 1 && written[0]["device"] == "1113", "{told}");
    is_on_ledger(&hub, &written[0]);
    let devices = json(&hub, &["device", "list"]);
    assert_eq!((&devices[1]["state"], &devices[1]["reason"]), (&"revoked".into(), &"sold".into()), "{devices}");
    assert!(devices[0]["state"] == "active" && devices[0]["reason"].is_null(), "{devices}");
    assert!(devices[0]["not_after_s"].is_u64(), "{devices}");
    assert!(json(&hub, &["device", "show", "1111"])["history"][0]["time_s"].is_u64());

    let file = hub.dir.path().join("ledger.bin").display().to_string();
    let exported = json(&hub, &["ledger", "export", &file]);
    let verified = json(&hub, &["ledger", "verify"]);
    assert_eq!((&exported["height"], &exported["head"]), (&verified["height"], &verified["head"]));
    assert!(Path::new(exported["file"].as_str().unwrap()).exists());

    let config = json(&hub, &["broker", "config", "mosquitto"]);
    assert_eq!(config["files"][0]["name"], "mosquitto.conf");
    assert!(config["files"][0]["text"].as_str().is_some_and(|text| text.contains("password_file")), "{config}");
    let rotated = json(&hub, &["key", "rotate", "operator"]);
    assert_eq!(rotated["public_key_sha256"].as_str().map(str::len), Some(64), "{rotated}");
    let token = succeed(sealcast().args(["console", "token", "--json", "--dir"]).arg(hub.path()));
    assert!(serde_json::from_str::<Value>(&token).unwrap()["token"].is_string());
}

#[test]
fn a_token_is_written_to_a_file_that_only_its_owner_can_read() {
    let hub = Hub::start();
    let path = |name: &str| hub.dir.path().join(name).display().to_string();
    let (device, console) = (path("1111.token"), path("console.token"));
    let told = json(&hub, &["device", "add", "1111", "--out", &device]);
    assert!(told["token"].is_null() && told["file"] == device.as_str(), "{told}");
    let args = ["console", "token", "--json", "--out", &console, "--dir"];
    let told: Value = serde_json::from_str(&succeed(sealcast().args(args).arg(hub.path()))).unwrap();
    assert!(told["token"].is_null() && told["file"] == console.as_str(), "{told}");
    for (file, begin) in [(&device, "1111."), (&console, "")] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
        let text = fs::read_to_string(file).unwrap();
        assert!(text.starts_with(begin) && text.trim().len() > 20, "{file}");
        assert!(!hub.operate(&["device", "add", "1112", "--out", &path("x")]).contains("1112."), "it is not printed");
    }
}

/// A CSV file in a folder with a hub, and where its tokens go.
struct Fleet {
    hub: Hub,
    csv: String,
    tokens: String,
}

impl Fleet {
    fn new() -> Self {
        let hub = Hub::start();
        let path = |name: &str| hub.dir.path().join(name).display().to_string();
        let (csv, tokens) = (path("fleet.csv"), path("tokens.csv"));
        Self { hub, csv, tokens }
    }

    fn write(&self, csv: &str) {
        fs::write(&self.csv, csv).unwrap();
    }

    fn add(&self, more: &[&str]) -> Value {
        json(&self.hub, &[&["device", "add", "--csv", &self.csv], more].concat())
    }

    /// How far each device is.
    fn states(&self) -> Vec<String> {
        let told = self.add(&["--out", &self.tokens]);
        let rows = told["devices"].as_array().unwrap();
        rows.iter().map(|row| format!("{} {}", row["device"], row["state"]).replace('"', "")).collect()
    }

    fn token_of(&self, device: &str) -> String {
        let rows = fs::read_to_string(&self.tokens).unwrap();
        let row = rows.lines().find(|row| row.starts_with(&format!("{device},"))).unwrap().to_owned();
        row.split(',').nth(1).unwrap().to_owned()
    }

    fn enroll(&self, device: &str) {
        let file = self.hub.path().join("token");
        secret_file(&file, &self.token_of(device));
        let (dir, url) = (self.hub.dir.path().join("agents").join(device), format!("https://{}", self.hub.est));
        succeed(sealcast().args(["enroll", "--hub", &url, "--token-file"]).arg(file).arg("--dir").arg(dir));
    }
}

#[test]
fn all_lines_are_checked_before_anybody_is_invited() {
    let fleet = Fleet::new();
    fleet.hub.enroll("1111");
    fleet.write("device,groups\n1112,\n1111,\n1113,meters\na b,\n1112,\n");
    let mut command = fleet.hub.command(&["device", "add", "--csv", &fleet.csv, "--out", &fleet.tokens]);
    let refused = output(&mut command);
    let said = String::from_utf8_lossy(&refused.stderr);
    for part in [
        "line 3: 1111 is enrolled already",
        "line 4: there is no group meters",
        "line 5: ",
        "line 6: 1112 stands in line 2",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!refused.status.success() && refused.stdout.is_empty() && !Path::new(&fleet.tokens).exists(), "{said}");
}

#[test]
fn a_fleet_is_invited_and_what_was_stopped_goes_on() {
    let fleet = Fleet::new();
    fleet.hub.operate(&["group", "create", "room", "--filter", "room/#"]);
    fleet.write("device,groups\n1111,room\n1112,room\n1113,\n");
    assert_eq!(fleet.states(), ["1111 invited", "1112 invited", "1113 invited"]);
    assert_eq!(fs::metadata(&fleet.tokens).unwrap().permissions().mode() & 0o777, 0o600);
    let first = fs::read_to_string(&fleet.tokens).unwrap();

    // As if the first run had been stopped after the file, before the hub had the hashes.
    let tokens = rusqlite::Connection::open(fleet.hub.path().join("hub.sqlite")).unwrap();
    assert_eq!(tokens.execute("DELETE FROM token WHERE device = '1112'", []).unwrap(), 1);
    drop(tokens);
    fleet.enroll("1111");
    fleet.write("device,groups\n1111,room\n1112,room\n1113,\n1114,room\n");
    let told = fleet.add(&["--out", &fleet.tokens]);
    let states: Vec<&str> =
        told["devices"].as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["enrolled", "invited_before", "invited_before", "invited"]);
    assert_eq!(told["devices"][0]["granted"], serde_json::json!(["room"]));
    assert!(
        told["devices"].as_array().unwrap().iter().all(|row| row["token"].is_null()),
        "they are in the file: {told}"
    );
    assert!(told["devices"][0]["expires_s"].is_null() && told["devices"][1]["expires_s"].is_u64(), "{told}");
    let second = fs::read_to_string(&fleet.tokens).unwrap();
    assert!(first.lines().all(|row| second.contains(row)), "nobody's token was replaced");
    fleet.enroll("1112");

    // What somebody has revoked stays revoked.
    fleet.hub.operate(&["group", "revoke", "room", "1111"]);
    let told = fleet.add(&["--out", &fleet.tokens]);
    assert_eq!(told["devices"][0]["granted"], serde_json::json!([]));
    assert_eq!(told["devices"][1]["granted"], serde_json::json!(["room"]));
    assert_eq!(fleet.states(), ["1111 enrolled", "1112 enrolled", "1113 invited_before", "1114 invited_before"]);

    // Another file is not written over.
    fs::write(&fleet.tokens, "my notes\n").unwrap();
    let mut command = fleet.hub.command(&["device", "add", "--csv", &fleet.csv, "--out", &fleet.tokens]);
    assert!(!output(&mut command).status.success());
    assert_eq!(fs::read_to_string(&fleet.tokens).unwrap(), "my notes\n");
}

#[test]
fn a_token_that_was_replaced_does_not_come_back() {
    let fleet = Fleet::new();
    fleet.write("device\n1111\n1112\n");
    assert_eq!(fleet.states(), ["1111 invited", "1112 invited"]);
    let stored = || {
        let tokens = rusqlite::Connection::open(fleet.hub.path().join("hub.sqlite")).unwrap();
        let select = "SELECT secret_sha256 FROM token WHERE device = '1111'";
        tokens.query_row(select, [], |row| row.get::<_, Vec<u8>>(0)).unwrap()
    };
    let leaked = stored();
    fleet.hub.operate(&["device", "add", "1111"]);
    let replacement = stored();
    assert_ne!(replacement, leaked);
    assert_eq!(fleet.states(), ["1111 replaced", "1112 invited_before"]);
    assert_eq!(stored(), replacement);
    let printed = fleet.hub.operate(&["device", "add", "--csv", &fleet.csv, "--out", &fleet.tokens]);
    assert!(printed.lines().any(|line| line.starts_with("1111: replaced")), "{printed}");

    // The hub has an earlier one, as if a run had been stopped between the file and the hub.
    let tokens = rusqlite::Connection::open(fleet.hub.path().join("hub.sqlite")).unwrap();
    tokens.execute("UPDATE token SET expires_ms = 1 WHERE device = '1111'", []).unwrap();
    drop(tokens);
    assert_eq!(fleet.states(), ["1111 invited_before", "1112 invited_before"]);
    assert_eq!(stored(), leaked);
}

#[test]
fn without_the_operators_folder_devices_are_invited_and_granted_their_groups_elsewhere() {
    let fleet = Fleet::new();
    fleet.hub.operate(&["group", "create", "room", "--filter", "room/#"]);
    fleet.write("device,groups\n1111,room\n1112,room\n");
    let told = || {
        let mut command = sealcast();
        command.args(["device", "add", "--csv", &fleet.csv, "--out", &fleet.tokens, "--json", "--hub"]);
        let told = output(command.arg(fleet.hub.path()).args(["--operator", "/nonexistent"]));
        assert!(String::from_utf8_lossy(&told.stderr).contains("sealcast group grant --csv"), "{told:?}");
        serde_json::from_slice::<Value>(&told.stdout).unwrap()["devices"].clone()
    };
    let invited = told();
    assert_eq!((&invited[0]["state"], &invited[1]["state"]), (&"invited".into(), &"invited".into()), "{invited}");
    fleet.enroll("1111");
    let again = told();
    assert_eq!((&again[0]["state"], &again[1]["state"]), (&"not_at_hub".into(), &"invited_before".into()), "{again}");
    let tokens = rusqlite::Connection::open(fleet.hub.path().join("hub.sqlite")).unwrap();
    let kept = tokens.query_row("SELECT device FROM token", [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(kept, "1112", "a token that was used does not come back");

    let grant = || json(&fleet.hub, &["group", "grant", "--csv", &fleet.csv])["devices"].clone();
    let granted = serde_json::json!([
        { "device": "1111", "enrolled": true, "granted": ["room"] },
        { "device": "1112", "enrolled": false, "granted": [] },
    ]);
    assert_eq!(grant(), granted);
    assert_eq!(grant()[0]["granted"], serde_json::json!([]), "once");
}

#[test]
fn two_runs_at_once_are_refused() {
    let fleet = Fleet::new();
    fleet.write("device\n1111\n");
    let lock = fs::File::create(fleet.hub.path().join("invitations.lock")).unwrap();
    lock.lock().unwrap();
    let mut command = fleet.hub.command(&["device", "add", "--csv", &fleet.csv, "--out", &fleet.tokens]);
    let refused = output(&mut command);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("wait until it has ended"), "{said}");
    assert!(!Path::new(&fleet.tokens).exists());
    drop(lock);
    assert_eq!(fleet.states(), ["1111 invited"]);
}

#[test]
fn without_a_file_for_them_the_tokens_are_printed() {
    let fleet = Fleet::new();
    fleet.write("device\n1111\n");
    let printed = fleet.hub.operate(&["device", "add", "--csv", &fleet.csv]);
    let row: Vec<&str> = printed.lines().nth(1).unwrap().split_whitespace().collect();
    assert!(row[0] == "1111" && row.last().is_some_and(|token| token.starts_with("1111.")), "{printed}");
    assert!(fleet.hub.operate(&["device", "list"]).starts_with("No devices yet"), "nobody has enrolled");
}

#[test]
fn an_agent_says_what_keeps_messages_away_before_any_was_sent() {
    let hub = Hub::start();
    let [first, second] = hub.pair("room", ["", ""]);
    let why = |topic: &str| {
        let told = succeed(sealcast().args(["why", topic, "--json", "--dir"]).arg(&second.dir));
        serde_json::from_str::<Vec<Value>>(&told).unwrap()
    };
    drop(second.subscribe("nowhere/#", &["-i", "panel"]));
    second.log.until(&[" WARN ", "subscription brings nothing", "panel", "nowhere/#", "code=topic-no-group"]);
    until("it is noted", || why("nowhere/t").iter().any(|row| row["code"] == "topic-no-group"));

    assert!(why("room/t").iter().all(|row| row["code"] != "key-not-member"));
    hub.operate(&["group", "revoke", "room", "1112", "--reason", "sold"]);
    until("the loss is told", || {
        why("room/t").iter().any(|row| {
            let detail = row["detail"].as_str().unwrap_or_default();
            row["code"] == "key-not-member"
                && detail.contains("lost the group room by entry")
                && detail.contains("sold")
        })
    });
    assert!(why("elsewhere/t").iter().all(|row| row["code"] != "key-not-member"), "another group's topic");
    hub.operate(&["group", "grant", "room", "1112"]);
    until("it is granted again", || why("room/t").iter().all(|row| row["code"] != "key-not-member"));
    drop(first);
}

#[test]
fn a_topic_that_only_a_fail_safe_waits_for_is_shown() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    let shown = || succeed(sealcast().args(["topics", "--dir"]).arg(&dir));
    drop(Agent::start(&dir, &[]));
    assert!(shown().starts_with("No topic was measured yet"), "{}", shown());
    configure(
        &dir,
        "[[quality]]\nfilter = 'room/t'\nfail_safe.on_silence = { after_ms = 5000, publish = 'open', topic = 'room/valve' }\n",
    );
    assert!(shown().contains("room/t") && shown().contains("5 s silent"), "{}", shown());
    let rows: Value = serde_json::from_str(&succeed(sealcast().args(["topics", "--json", "--dir"]).arg(&dir))).unwrap();
    assert_eq!(rows[0]["fail_safe"]["silence_ms"], 5000, "{rows}");
}

#[test]
fn what_was_learnt_is_told_with_its_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let rows = (0..60).map(|at| format!("2026-01-01 00:{at:02}:00,{}\n", 20 + at % 3)).collect::<String>();
    fs::write(dir.path().join("recording.csv"), format!("time,value\n{rows}")).unwrap();
    let mut learn = sealcast();
    learn.args(["quality", "learn", "recording.csv", "--filter", "room/t", "--json"]).current_dir(dir.path());
    let learnt: Value = serde_json::from_str(&succeed(&mut learn)).unwrap();
    assert_eq!((&learnt["filter"], &learnt["understood"]["rows"]), (&"room/t".into(), &60.into()), "{learnt}");
    assert!(learnt["toml"].as_str().is_some_and(|toml| toml.contains("[[quality]]")), "{learnt}");
    assert!(learnt["rules"][0]["key"].is_string() && learnt["rules"][0]["because"].is_string(), "{learnt}");
}
