//! What a package installs, as far as it can be read: `ci/test-package` installs it.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use rkllama_tests::{executable, repository};

fn read(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap()
}

/// The lines of a section of a unit, without comments.
fn section<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    unit.lines()
        .skip_while(|line| *line != format!("[{name}]"))
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect()
}

#[test]
fn the_unit_leaves_the_npu_open_and_nothing_else() {
    let unit = read("packaging/rkllama.service");
    let service = section(&unit, "Service");
    for must in [
        "User=rkllama",
        "SupplementaryGroups=render video",
        "LimitNOFILE=65536",
        "KillMode=mixed",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
    ] {
        assert!(service.contains(&must), "no {must}");
    }
    // Any of them has systemd close every device that is not named.
    for key in ["DeviceAllow", "DevicePolicy", "PrivateDevices", "ProtectClock"] {
        let closes = service.iter().any(|line| line.starts_with(&format!("{key}=")));
        assert!(!closes, "{key} closes /dev/dri, /dev/rknpu and /dev/dma_heap");
    }
    // Elsewhere systemd does not read them.
    let starts = section(&unit, "Unit");
    assert_eq!(starts.iter().filter(|line| line.starts_with("StartLimit")).count(), 2);
}

/// As it comes, and with the two lines that open it.
#[test]
fn the_packaged_configuration_is_one() {
    let shipped = read("packaging/config.toml");
    let opened = shipped.replace("#listen", "listen").replace("#auth", "auth");
    assert_ne!(shipped, opened);
    for (config, listens) in [(shipped, "127.0.0.1:8080"), (opened, "0.0.0.0:8080")] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        fs::write(&file, config).unwrap();
        let output = Command::new(executable())
            .env_clear()
            .args(["config", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for says in
            [listens, "models = \"/var/lib/rkllama/models\"", "state = \"/var/lib/rkllama\""]
        {
            assert!(printed.contains(says), "no {says} in {printed}");
        }
    }
}

#[test]
fn the_container_gets_the_npu_and_is_not_privileged() {
    let compose = read("packaging/docker/compose.yaml");
    let server = compose.split("\n  open-webui:").next().unwrap();
    for must in [
        "- /dev/dri\n",
        "- /dev/rknpu\n",
        "- /dev/dma_heap\n",
        "cap_drop: [ALL]",
        "- no-new-privileges:true",
        "nofile: 65536",
        "- state:/var/lib/rkllama\n",
    ] {
        assert!(server.contains(must), "no {must}");
    }
    assert!(!compose.contains("privileged: true") && !compose.contains("cap_add"), "{compose}");
    let image = read("packaging/docker/Dockerfile");
    assert!(image.contains("\nUSER rkllama\n") && image.contains("\nHEALTHCHECK "), "{image}");
}

/// Both stand in the compose file's volume `keys`: what the server made is what its neighbour reads.
#[test]
fn the_containers_share_the_key_that_one_of_them_makes() {
    let compose = read("packaging/docker/compose.yaml");
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys.toml");
    // The wrapper, with the executable under test.
    let wrapper = read("packaging/docker/rkllama")
        .replace("/usr/bin/rkllama", executable().to_str().unwrap());
    let run = || {
        let output = Command::new("sh")
            .args(["-c", &wrapper, "rkllama", "config"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("RKLLAMA_AUTH__KEYS_FILE", &keys)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(&keys).unwrap()
    };
    let first = run();
    assert_eq!(run(), first, "a second start makes no other key");
    // As compose hands it to the shell: `$$` is a dollar there.
    let line = compose.lines().find(|line| line.contains("OPENAI_API_KEY=")).unwrap();
    let script = line
        .trim_start_matches([' ', '-'])
        .replace("$$", "$")
        .replace("/keys/keys.toml", keys.to_str().unwrap())
        .replace("bash start.sh", "printenv OPENAI_API_KEY");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let secret = printed.trim_end();
    assert_eq!(secret.len(), 48, "{script}: {secret}");
    assert!(first.contains(&format!("\nsecret = \"{secret}\"\n")), "{first}");
}

/// What `ci/licenses` makes of an executable of one crate with this licence and this text.
fn licences_of(dir: &Path, licence: &str, text: Option<&str>) -> Output {
    let manifest = |name: &str, rest: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2024\"\n{rest}")
    };
    let files = [
        ("Cargo.toml", manifest("rkllama", "[workspace]\n[dependencies]\nforeign = \"1\"\n")),
        ("src/lib.rs", String::new()),
        (
            ".cargo/config.toml",
            "[source.crates-io]\nreplace-with = \"here\"\n[source.here]\ndirectory = \"here\"\n"
                .into(),
        ),
        ("here/foreign/Cargo.toml", manifest("foreign", &format!("license = \"{licence}\"\n"))),
        ("here/foreign/src/lib.rs", String::new()),
        ("here/foreign/.cargo-checksum.json", r#"{"files": {}}"#.to_owned()),
    ];
    let text = text.map(|text| ("here/foreign/LICENSE", text.to_owned()));
    for (name, content) in files.into_iter().chain(text) {
        let file = dir.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    let locked = Command::new(env!("CARGO"))
        .args(["generate-lockfile", "--offline", "--quiet"])
        .current_dir(dir)
        .status();
    assert!(locked.unwrap().success());
    Command::new(repository().join("ci/licenses"))
        .arg("aarch64-unknown-linux-gnu")
        .arg(dir)
        .output()
        .unwrap()
}

#[rstest::rstest]
#[case("MIT", Some("As is."), Ok("foreign 1.0.0: MIT"))]
#[case("MIT OR GPL-3.0-only", Some("As is."), Ok("As is."))]
#[case("GPL-2.0-only/Apache-2.0", None, Ok("Apache License"))]
#[case("MIT", None, Err("foreign 1.0.0: MIT without a text"))]
#[case("GPL-3.0-only", Some("Copyleft."), Err("GPL-3.0-only is none that is known to suit"))]
#[case("(MIT OR ISC) AND GPL-3.0-only", Some("Copyleft."), Err("is none that is known to suit"))]
#[case("Apache-2.0 AND ISC", None, Err("without a text"))]
#[case("", Some("Mine."), Err("foreign 1.0.0: no licence"))]
fn a_package_is_made_only_of_crates_whose_licences_suit(
    #[case] licence: &str,
    #[case] text: Option<&str>,
    #[case] wanted: Result<&str, &str>,
) {
    let dir = tempfile::tempdir().unwrap();
    let output = licences_of(dir.path(), licence, text);
    let (printed, said) =
        wanted.map_or_else(|said| (&output.stderr, said), |said| (&output.stdout, said));
    let printed = String::from_utf8_lossy(printed);
    assert_eq!(output.status.success(), wanted.is_ok(), "{printed}");
    assert!(printed.contains(said), "{printed}");
}
