//! The tests of the servers and files that other tests use. A test talks to the server that it
//! started, and its files are deleted at its end.

use std::{collections::BTreeSet, fs, path::Path};

use crate::support::{
    RedisServer, Temporary,
    process::{Process, free_port},
    redis_server::{answers, launch},
};

#[test]
fn another_server_on_the_port_is_not_taken_for_the_own_one() {
    let first = RedisServer::start();
    let port = first.address().port();
    assert!(!answers(port, std::process::id()), "it says who it is");
    assert!(launch(port).is_none(), "the second one ended");
}

#[test]
fn a_program_that_ends_before_it_answers_is_not_waited_for() {
    let ends = Process::start(Path::new("false"), &[], &[], Path::new("/dev/null"), None);
    assert!(ends.once_up(|_| false).is_none());
}

#[test]
fn ports_of_servers_are_free_and_no_two_are_the_same() {
    let ports: BTreeSet<u16> = (0..100).map(|_| free_port()).collect();
    assert_eq!(ports.len(), 100);
    // Ports for outgoing connections begin at 32768 on Linux, and higher elsewhere.
    assert!(ports.iter().all(|port| (20_000..30_000).contains(port)), "{ports:?}");
}

#[test]
fn what_is_temporary_is_gone_after_a_failure_too() {
    let (file, folder) = (Temporary::file("kept.txt", "text"), Temporary::folder("kept"));
    fs::write(folder.join("inside"), "text").expect("a file in it");
    let paths = [file.to_owned(), folder.to_owned()];
    assert!(paths.iter().all(|path| path.exists()));
    let failed = std::panic::catch_unwind(move || {
        let _held = (file, folder);
        panic!("a failure, as this test wants");
    });
    assert!(failed.is_err() && !paths.iter().any(|path| path.exists()));
}
