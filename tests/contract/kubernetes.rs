//! The tests that the Kubernetes manifests agree with the settings, with the image, and with each
//! other. `make lint` checks them against the schemas of Kubernetes.

use std::collections::BTreeSet;

use super::sources::{Source, files, read};

const FOLDER: &str = "ops/kubernetes";

fn manifest(name: &str) -> String {
    read(&format!("{FOLDER}/{name}"))
}

/// The number after the first `name:`.
fn number(text: &str, name: &str) -> u64 {
    let rest = text.split_once(&format!("{name}:")).unwrap_or_else(|| panic!("{name} is not set")).1;
    let digits: String = rest.trim_start_matches([' ', '"']).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{name} is no number"))
}

/// Names that look like variables: keys of a ConfigMap or Secret, and names of `env`.
fn variables(source: &Source) -> BTreeSet<String> {
    let lines = source.text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = lines.filter_map(|line| {
        let line = line.trim_start().trim_start_matches("- ");
        let name = line.strip_prefix("name: ").unwrap_or(line.split(':').next()?).trim();
        let shouted = name.contains('_') || name == "REGION";
        (shouted && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')).then(|| name.to_owned())
    });
    words.collect()
}

#[test]
fn every_variable_is_a_setting() {
    let settings: BTreeSet<String> = read(".env.example")
        .lines()
        .filter_map(|line| Some(line.trim_start_matches('#').split_once('=')?.0.to_owned()))
        .collect();
    let mut named = 0;
    for source in files(FOLDER, ".yaml") {
        for name in variables(&source) {
            named += 1;
            assert!(settings.contains(&name), "{} names {name}, which is no setting", source.path);
        }
    }
    assert!(named >= 12, "only {named} names were found");
}

#[test]
fn a_stopping_instance_has_the_time_it_takes() {
    let (deployment, settings) = (manifest("deployment.yaml"), manifest("configmap.yaml"));
    let limit = number(&settings, "SHUTDOWN_TIMEOUT_MS");
    let drain = number(&settings, "SHUTDOWN_DRAIN_MS");
    let readiness = deployment.split_once("readinessProbe:").expect("a probe").1;
    assert!(number(&deployment, "terminationGracePeriodSeconds") * 1_000 > limit + 5_000, "the end would be cut off");
    assert!(drain >= 2 * 1_000 * number(readiness, "periodSeconds"), "requests would still be sent to it");
    assert!(drain <= limit / 2, "the service refuses to start with so long a drain");
}

#[test]
fn user_and_ports_are_those_of_the_image() {
    let (deployment, image) = (manifest("deployment.yaml"), read("Dockerfile"));
    assert!(image.contains(&format!("\nUSER {}\n", number(&deployment, "runAsUser"))));
    let ports: Vec<_> = deployment
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("containerPort: "))
        .collect();
    assert_eq!(ports.len(), 2, "the public and the management listener");
    for port in ports {
        assert!(image.contains(&format!(":{port}")), "the image doesn't listen on {port}");
    }
}

#[test]
fn what_kustomize_names_is_there_and_no_secret_is_among_it() {
    let text = manifest("kustomization.yaml");
    let named: BTreeSet<_> = text
        .lines()
        .filter_map(|line| {
            line.trim_start_matches([' ', '#']).strip_prefix("- ").filter(|name| name.ends_with(".yaml"))
        })
        .collect();
    let there = files(FOLDER, ".yaml");
    let there: BTreeSet<_> = there.iter().map(|source| &source.path[FOLDER.len() + 1..]).collect();
    let apart = BTreeSet::from(["kustomization.yaml", "secret.example.yaml"]);
    assert_eq!(named, there.difference(&apart).copied().collect());
}
