//! What a package installs, as far as it can be read: `ci/test-package` installs it.

use std::{fs, process::Command};

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
