//! The tests that docker-compose.yml agrees with the settings, with the image, and with the targets
//! of Prometheus. `make compose` tests that an engine runs it.

use std::collections::BTreeSet;

use super::sources::read;

/// Services without the restrictions of the others. Their images drop rights themselves, or write
/// to folders that only the image knows.
const NOT_LOCKED: [&str; 2] = ["grafana", "postgres"];

/// The lines of the file without comments.
fn lines() -> Vec<String> {
    let text = read("docker-compose.yml");
    text.lines().filter(|line| !line.trim_start().starts_with('#')).map(str::to_owned).collect()
}

/// Every service with the lines that describe it.
fn services() -> Vec<(String, Vec<String>)> {
    let mut services: Vec<(String, Vec<String>)> = Vec::new();
    let inside = lines().into_iter().skip_while(|line| line != "services:").skip(1);
    for line in inside.take_while(|line| line.is_empty() || line.starts_with(' ')) {
        let indented = line.strip_prefix("  ").unwrap_or_default();
        if let Some((name, _)) = indented.split_once(':').filter(|_| !indented.starts_with(' ')) {
            services.push((name.to_owned(), Vec::new()));
        } else if let Some((_, described)) = services.last_mut() {
            described.push(indented.trim().to_owned());
        }
    }
    assert!(services.len() > 8, "only {} services were found", services.len());
    services
}

#[test]
fn a_variable_that_is_empty_counts_as_not_set() {
    let mut found = 0;
    for line in lines() {
        for (_, rest) in line.match_indices('$').map(|(at, _)| line.split_at(at)) {
            let Some(inside) = rest.strip_prefix("${") else { continue };
            let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').expect("an end");
            assert!(inside[end..].starts_with(":-"), "another form than ${{{}:-…}}: {line}", &inside[..end]);
            found += 1;
        }
    }
    assert!(found > 20, "only {found} variables were found");
}

#[test]
fn every_variable_of_the_instances_is_a_setting() {
    let example = read(".env.example");
    let settings: BTreeSet<_> =
        example.lines().filter_map(|line| Some(line.trim_start_matches('#').split_once('=')?.0)).collect();
    let given = lines().into_iter().skip_while(|line| !line.contains("&aside-environment")).skip(1);
    let given: Vec<_> = given.take_while(|line| line.starts_with("    ")).collect();
    assert!(given.len() > 8, "only {} were found", given.len());
    for line in given {
        let name = line.trim().split(':').next().unwrap_or_default();
        assert!(settings.contains(name), "{name} is no setting");
    }
}

#[test]
fn ports_are_published_on_loopback_only() {
    let ports: Vec<_> = lines().into_iter().filter(|line| line.trim().starts_with("ports:")).collect();
    assert!(ports.len() > 7, "only {} were found", ports.len());
    for line in ports {
        let (_, list) = line.split_once('[').expect("a list on one line");
        let published = list.split(',').filter(|port| port.trim().starts_with("\"127.0.0.1:${")).count();
        assert_eq!(published, list.split(',').count(), "not on loopback, or not to be chosen: {line}");
    }
}

#[test]
fn images_are_of_one_version_and_the_own_one_is_not_fetched() {
    assert!(lines().contains(&"  pull_policy: never".to_owned()), "another image of this name would be taken");
    for line in lines().iter().filter_map(|line| line.trim().strip_prefix("image: ")).filter(|image| *image != "aside")
    {
        let (_, tag) = line.split_once(':').unwrap_or_else(|| panic!("{line} has no tag"));
        assert!(tag.trim_start_matches('v').matches('.').count() >= 1, "{line} names no version");
    }
}

#[test]
fn containers_have_no_more_rights_than_they_need() {
    for (name, described) in services() {
        let locked = described.iter().any(|line| ["<<: *locked", "<<: *aside", "<<: *app"].contains(&line.as_str()));
        assert_eq!(locked, !NOT_LOCKED.contains(&name.as_str()), "{name}");
    }
    let locked = lines().into_iter().skip_while(|line| !line.contains("&locked")).skip(1);
    let locked: Vec<_> = locked.take_while(|line| line.starts_with(' ')).collect();
    for right in ["read_only: true", "cap_drop: [ALL]", "no-new-privileges:true"] {
        assert!(locked.iter().any(|line| line.contains(right)), "{right}");
    }
    assert!(lines().contains(&"  <<: *locked".to_owned()), "the instances have more rights");
}

#[test]
fn what_prometheus_scrapes_are_instances() {
    let scraped = read("ops/prometheus/prometheus.yml");
    let (_, list) = scraped.split_once("targets: [").expect("targets");
    let (list, _) = list.split_once(']').expect("an end");
    let names: BTreeSet<_> = services().into_iter().map(|(name, _)| name).collect();
    for target in list.split(", ") {
        let (host, port) = target.split_once(':').expect("a port");
        assert!(names.contains(host), "{host} is no service");
        assert!(read("Dockerfile").contains(&format!("MANAGEMENT_ADDR=0.0.0.0:{port}")), "nothing listens on {port}");
    }
}
