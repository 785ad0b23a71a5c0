//! The commands that look at the models of a server, and change which there are.

use std::{fs, path::Path};

use rkllama_tests::{ModelDir, Server, ServerSetup, until};
use serde_json::Value;

use crate::cli_support::{complaint, printed, run, text};

const RULES: &str = "[[rule]]\nsystem_contains = \"pirate\"\nsay = \"Arr.\"\n";

fn server() -> Server {
    ServerSetup::new().mock("1.3.0").model(&ModelDir::demo("demo").script(RULES)).start()
}

fn names(server: &Server) -> Vec<String> {
    let list: Value = serde_json::from_str(&printed(&run(server, &["list", "--json"]))).unwrap();
    let id = |model: &Value| model["id"].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(id).collect()
}

/// The rows of a section of `show`, as words.
fn section(shown: &str, title: &str) -> Vec<Vec<String>> {
    let lines = shown.lines().skip_while(|line| line.trim() != title).skip(1);
    let rows = lines.take_while(|line| !line.is_empty());
    rows.map(|row| row.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn a_model_is_shown_whole_or_in_part() {
    let model = ModelDir::demo("demo").manifest(
        "system = \"Be brief.\"\nlicenses = [\"One\\nTwo\\nThree\"]\n[sampling]\ntemperature = 0.25\n",
    );
    let server = ServerSetup::new().mock("1.3.0").model(&model).start();
    let shown = printed(&run(&server, &["show", "demo"]));
    assert_eq!(section(&shown, "Model")[2], ["context", "length", "4096"]);
    assert!(section(&shown, "Capabilities").contains(&vec!["completion".to_owned()]), "{shown}");
    assert_eq!(section(&shown, "Parameters")[0][..2], ["temperature", "0.25"]);
    assert_eq!(section(&shown, "System"), [["Be", "brief."]]);
    assert_eq!(section(&shown, "License"), [["One"], ["Two"], ["..."]]);

    let part = |flag: &str| printed(&run(&server, &["show", "demo", flag]));
    assert_eq!(part("--system"), "Be brief.\n");
    assert_eq!(part("--license"), "One\nTwo\nThree\n");
    assert!(part("--template").contains("messages"));
    assert!(part("--modelfile").contains("SYSTEM Be brief."));
    assert!(part("--parameters").starts_with("temperature                    0.25\n"));
    let json: Value = serde_json::from_str(&part("--json")).unwrap();
    assert_eq!(
        (&json["system"], &json["license"]),
        (&"Be brief.".into(), &"One\nTwo\nThree".into())
    );

    let unknown = complaint(&run(&server, &["show", "nobody"]));
    assert!(unknown.contains("'nobody"), "{unknown}");
    let both = run(&server, &["show", "demo", "--system", "--license"]);
    assert_eq!(both.status.code(), Some(2), "{both:?}");
}

/// What the manifest says, what the other files say, and what was read off names and templates.
#[test]
fn what_counts_for_a_model_is_shown_with_who_says_it() {
    let model = ModelDir::demo("demo").weights_name("demo-rk3588-w8a8-v1.3.0.rkllm").manifest(
        "runtime = '1.3.0'\naliases = ['nick', 'other']\ntool_format = 'hermes'\nkeep_alive = '10m'\n\
         memory_mb = 300\n",
    );
    let server = ServerSetup::new().mock("1.3.0").model(&model).start();
    let shown = printed(&run(&server, &["show", "nick"]));
    let rows = section(&shown, "Settings");
    let rows: Vec<String> = rows.iter().map(|row| row.join(" ")).collect();
    assert_eq!(
        rows,
        [
            "file demo-rk3588-w8a8-v1.3.0.rkllm the folder",
            "toolkit 1.3.0 the file's name",
            "platform RK3588 the file's name",
            "type chat",
            "runtime 1.3.0 rkllama.toml",
            "memory_mb 300 rkllama.toml",
            "keep_alive 600 s rkllama.toml",
            "aliases nick, other rkllama.toml",
            "tool_format hermes rkllama.toml",
            "reasoning_format think the template",
        ]
    );
}

#[test]
fn models_are_copied_and_removed() {
    let server = server();
    let copied = printed(&run(&server, &["cp", "demo", "copy:1"]));
    assert_eq!(copied, "copied 'demo' to 'copy:1'\n");
    assert_eq!(names(&server), ["copy:1", "demo"]);
    assert!(!printed(&run(&server, &["run", "copy:1", "Hi"])).is_empty());
    let unknown = complaint(&run(&server, &["cp", "nobody", "x"]));
    assert!(unknown.contains("\"nobody\""), "{unknown}");
    let bad = complaint(&run(&server, &["cp", "demo", "a b"]));
    assert!(bad.contains("destination"), "{bad}");

    // One that is not there does not save the one behind it.
    let removed = run(&server, &["rm", "copy:1", "nobody", "demo"]);
    assert_eq!(text(&removed.stdout), "deleted 'copy:1'\ndeleted 'demo'\n");
    assert!(complaint(&removed).contains("'nobody'"), "{removed:?}");
    assert_eq!(names(&server), [""; 0]);
    let none = run(&server, &["rm"]);
    assert_eq!(none.status.code(), Some(2), "{none:?}");
}

#[test]
fn a_model_is_unloaded() {
    let server = server();
    printed(&run(&server, &["run", "demo", "Hi"]));
    assert!(printed(&run(&server, &["ps"])).contains("demo"));
    assert_eq!(printed(&run(&server, &["stop", "demo"])), "");
    until("it is unloaded", || (printed(&run(&server, &["ps", "--json"])) == "[]\n").then_some(()));
    let unknown = complaint(&run(&server, &["stop", "nobody"]));
    assert_eq!(unknown, "rkllama: couldn't find model \"nobody\" to stop\n");
}

#[test]
fn a_model_is_made_of_another_one() {
    let server = server();
    let modelfile = server.dir().join("Pirate");
    fs::write(
        &modelfile,
        "# A comment\nFROM demo\nSYSTEM \"\"\"You are\na pirate.\"\"\"\nPARAMETER temperature 0.25\n\
         PARAMETER stop END\nPARAMETER mirostat 1\nLICENSE MIT\nMESSAGE user Hi\nMESSAGE assistant Arr?\n",
    )
    .unwrap();
    let made = run(&server, &["create", "pirate", "-f", modelfile.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    assert_eq!(text(&made.stdout), "created 'pirate'\n");
    assert_eq!(text(&made.stderr), "warning: parameter mirostat is deprecated\n");
    assert_eq!(printed(&run(&server, &["run", "pirate", "Hello"])), "Arr.\n");
    let shown = printed(&run(&server, &["show", "pirate"]));
    let rows = section(&shown, "Parameters");
    assert_eq!(rows[0][..2], ["temperature", "0.25"]);
    assert!(rows.iter().any(|row| row[..2] == ["stop", "\"END\""]), "{shown}");
    assert_eq!(section(&shown, "License"), [["MIT"]]);
    let modelfile = printed(&run(&server, &["show", "pirate", "--modelfile"]));
    assert!(modelfile.contains("MESSAGE user Hi\nMESSAGE assistant Arr?"), "{modelfile}");
}

#[test]
fn what_was_made_is_told_by_its_id() {
    let server = server();
    let modelfile = server.dir().join("Modelfile");
    fs::write(&modelfile, "FROM=demo\nMODEL_TYPE=embed\n").unwrap();
    let file = modelfile.to_str().unwrap();
    let made = run(&server, &["create", "vectors:latest", "-f", file]);
    assert!(printed(&made).ends_with("created 'vectors'\n"), "{made:?}");
    let shown = printed(&run(&server, &["show", "vectors", "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["capabilities"], serde_json::json!(["embedding"]));
    fs::write(&modelfile, "FROM=demo\nMODEL_TYPE=image\n").unwrap();
    let refused = complaint(&run(&server, &["create", "n", "-f", file]));
    assert!(refused.contains("MODEL_TYPE") && refused.contains("image"), "{refused}");
}

#[test]
fn a_template_that_cannot_be_used_is_refused_before_anything_is_sent() {
    let server = server();
    for template in ["{{ if .Prompt }}", "{% for m in messages %}"] {
        let folder = folder(&server, &format!("FROM .\nTEMPLATE \"\"\"{template}\"\"\"\n"));
        let output = crate::cli_support::client(&server, &["create", "mine"])
            .current_dir(&folder)
            .output()
            .unwrap();
        let refused = complaint(&output);
        assert!(refused.contains("template error"), "{refused}");
        assert!(!text(&output.stdout).contains("reading "), "{output:?}");
        fs::remove_dir_all(folder).unwrap();
    }
    assert_eq!(names(&server), ["demo"]);
}

/// A folder of a model beside the server, with its tokenizer below it and this Modelfile.
fn folder(server: &Server, modelfile: &str) -> std::path::PathBuf {
    let parent = server.dir().join("elsewhere");
    fs::create_dir_all(&parent).unwrap();
    ModelDir::demo("mine").script(RULES).weights_name("a b.rkllm").write(&parent);
    let folder = parent.join("mine");
    fs::create_dir(folder.join("tokenizer")).unwrap();
    fs::rename(folder.join("tokenizer.json"), folder.join("tokenizer/tokenizer.json")).unwrap();
    fs::write(folder.join("Modelfile"), modelfile).unwrap();
    folder
}

fn create_in(server: &Server, folder: &Path, name: &str) -> String {
    let mut command = crate::cli_support::client(server, &["create", name]);
    printed(&command.current_dir(folder).output().unwrap())
}

#[test]
fn a_model_is_made_of_a_folder_in_ollamas_words() {
    let server = server();
    let folder = folder(&server, "FROM .\nSYSTEM You are a pirate.\n");
    let told = create_in(&server, &folder, "mine");
    for file in ["a b.rkllm", "tokenizer.json", "tokenizer_config.json"] {
        for line in [format!("reading {file}: complete\n"), format!("sending {file}: complete\n")] {
            assert!(told.contains(&line), "{line} in {told}");
        }
    }
    assert!(told.ends_with("\ncreated 'mine'\n"), "{told}");
    assert_eq!(printed(&run(&server, &["run", "mine", "Hello"])), "Arr.\n");
    // Its files are there already.
    let again = create_in(&server, &folder, "again");
    assert!(again.contains("reading ") && !again.contains("sending "), "{again}");
    assert_eq!(names(&server), ["again", "demo", "mine"]);
}

#[test]
fn a_model_is_made_of_a_folder_in_the_words_of_boards() {
    let server = server();
    let folder = folder(
        &server,
        "FROM=\"a b.rkllm\"\nHUGGINGFACE_PATH=\"org/repo\"\nSYSTEM=\"You are a pirate.\"\nTEMPERATURE=0.25\n\
         MAX_NEW_TOKENS=7\nENABLE_THINKING=False\n",
    );
    // Where one stands, not where the file is.
    let file = folder.join("Modelfile");
    let output = run(&server, &["create", "mine", "--file", file.to_str().unwrap()]);
    assert!(printed(&output).ends_with("created 'mine'\n"));
    assert_eq!(printed(&run(&server, &["run", "mine", "Hello"])), "Arr.\n");
    let rows = section(&printed(&run(&server, &["show", "mine"])), "Parameters");
    let value = |name: &str| rows.iter().find(|row| row[0] == name).map(|row| row[1].clone());
    assert_eq!(value("temperature").as_deref(), Some("0.25"));
    assert_eq!(value("num_predict").as_deref(), Some("7"));
}

#[test]
fn what_is_wrong_with_a_modelfile_is_one_line() {
    let server = server();
    let file = server.dir().join("Modelfile");
    for (modelfile, words) in [
        ("SYSTEM Hi", "no FROM line"),
        ("FROM demo\nHELLO", "(line 2): command must be one of"),
        ("FROM demo\nPARAMETER speed 1", "unknown parameter 'speed'"),
        ("FROM demo\nPARAMETER top_p warm", "invalid float value [warm]"),
        ("FROM demo\nSYSTEM \"\"\"open", "unexpected EOF"),
        ("FROM demo\nADAPTER ./lora", "lora"),
        ("FROM demo\nADAPTER ./Modelfile", "is no adapter for this runtime"),
        ("FROM demo\nADAPTER a\nADAPTER b", "only one adapter is currently supported"),
        ("FROM=demo\nTEMPERATURE=warm", "Modelfile line 2, TEMPERATURE"),
        ("FROM ./nowhere.rkllm", "nowhere.rkllm"),
        ("FROM ./models", "holds no .rkllm file"),
        ("FROM nobody", "nobody"),
        // What the server says to it.
        ("FROM demo\nPARAMETER top_p 7", "top_p"),
    ] {
        fs::write(&file, modelfile).unwrap();
        let output = run(&server, &["create", "x", "-f", file.to_str().unwrap()]);
        assert!(complaint(&output).contains(words), "{words} in {output:?}");
    }
    // Without a server nothing is read in vain.
    let folder = folder(&server, "FROM .");
    let file = folder.join("Modelfile");
    let args = ["create", "x", "-f", file.to_str().unwrap(), "--host", "127.0.0.1:1"];
    let output = run(&server, &args);
    assert!(complaint(&output).contains("rkllama serve") && output.stdout.is_empty(), "{output:?}");
    let absent = complaint(&run(&server, &["create", "x", "-f", "/nowhere/Modelfile"]));
    assert!(absent.contains("/nowhere/Modelfile"), "{absent}");
    assert_eq!(names(&server), ["demo"]);
}
