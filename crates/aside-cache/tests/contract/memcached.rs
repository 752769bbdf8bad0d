//! The connection to Memcached, against servers that answer unlike Memcached. Every answer is an
//! error or a value of the requested key, never of another one. The next call uses a new
//! connection.
//!
//! A real server shows the limit of a value's size and reports its memory.

use std::{sync::Arc, time::Duration};

use aside_cache::{Fetch, Fetched, Fill, Filled, L2, MemcachedL2};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Mutex,
};

use aside_testkit::{MemcachedServer, eventually, memcached_server, redis_server::fresh_namespace};

const LEASE: Duration = Duration::from_secs(1);

/// Starts a server that answers every request with the same bytes.
async fn parrot(answer: &[u8]) -> (MemcachedL2, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let (answer, heard) = (answer.to_vec(), Arc::new(Mutex::new(Vec::new())));
    let said = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answer, said) = (answer.clone(), Arc::clone(&said));
            tokio::spawn(async move {
                let mut bytes = [0; 4_096];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    said.lock().await.extend_from_slice(&bytes[..count]);
                    if stream.write_all(&answer).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (MemcachedL2::new(address), heard)
}

fn fetch(key: &str) -> [Fetch; 1] {
    [Fetch { key: key.into(), min_version: 0 }]
}

#[tokio::test]
async fn what_is_no_answer_of_memcached_is_an_error_and_the_next_call_begins_anew() {
    let bad: [&[u8]; 14] = [
        b"\r\n",
        b"+PONG\r\n",
        b"ERROR\r\n",
        b"CLIENT_ERROR bad command line format\r\n",
        b"SERVER_ERROR out of memory storing object\r\n",
        b"HD\r\n",
        b"VA\r\n",
        b"VA x c1 t1\r\n",
        b"VA -1 c1 t1\r\n",
        b"VA 3 t1\r\nabc\r\n",
        b"VA 3 c1 t1\r\nabcdef\r\n",
        b"VA 99999999999999999999 c1 t1\r\n",
        b"EN\n",
        &[b'x'; 10_000],
    ];
    for answer in bad {
        let (l2, _) = parrot(answer).await;
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
        assert!(l2.fetch(&fetch("k"), "a", LEASE).await.is_err(), "{shown:?}");
        eventually("another line is made", || async {
            let error = l2.fetch(&fetch("k"), "a", LEASE).await.err()?;
            (!error.0.contains("a moment ago")).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_answered_too_late_or_never_costs_the_connection() {
    // The server announces an item and does not send it.
    let (l2, _) = parrot(b"VA 100 c1 t1\r\nonly this").await;
    let error = l2.fetch(&fetch("k"), "a", LEASE).await.expect_err("no answer");
    assert!(error.0.contains("broke"), "{error}");
    let (l2, _) = parrot(b"").await;
    assert!(l2.ping().await.is_err());
}

#[tokio::test]
async fn an_item_of_another_form_is_nobodys_and_is_leased() {
    let mut later = b"\x02".to_vec();
    later.extend_from_slice(&[0; 30]);
    for data in [b"".to_vec(), b"text".to_vec(), later, vec![b'x'; 1 << 21]] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let l2 = MemcachedL2::new(listener.local_addr().expect("its address").to_string());
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a line");
            let mut bytes = [0; 1_024];
            let _ = stream.read(&mut bytes).await.expect("a command");
            let head = format!("VA {} c7 t-1\r\n", data.len());
            stream.write_all(&[head.as_bytes(), &data, b"\r\n"].concat()).await.expect("sent");
            let count = stream.read(&mut bytes).await.expect("another command");
            assert!(String::from_utf8_lossy(&bytes[..count]).contains(" C7\r\n"), "it is overwritten by its number");
            stream.write_all(b"HD\r\n").await.expect("sent");
            // The connection remains open until the answer has been read.
            stream
        };
        let keys = fetch("k");
        let (answer, _stream) = tokio::join!(l2.fetch(&keys, "a", LEASE), server);
        assert_eq!(answer.expect("an answer"), [Fetched::Leased]);
    }
}

#[tokio::test]
async fn a_change_that_always_loses_fails_as_contended() {
    // The key is absent, and each time another client adds it first.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let l2 = MemcachedL2::new(listener.local_addr().expect("its address").to_string());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a line");
        let mut bytes = [0; 1_024];
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            let answer: &[u8] = if bytes[..count].starts_with(b"mg") { b"EN\r\n" } else { b"NS\r\n" };
            stream.write_all(answer).await.expect("sent");
        }
    });
    assert_eq!(l2.fetch(&fetch("k"), "a", LEASE).await.expect("an answer"), [Fetched::Busy(LEASE)]);
}

#[tokio::test]
async fn no_key_can_say_more_than_one_command() {
    let long = "k".repeat(251);
    for key in ["a b", "a\r\nflush_all", "", "ä", long.as_str()] {
        let (l2, heard) = parrot(b"EN\r\n").await;
        // The second answer is invalid for `ms`. Only the bytes of the request matter here.
        let _ = l2.fetch(&fetch(key), "a", LEASE).await;
        let heard = String::from_utf8_lossy(&heard.lock().await).into_owned();
        let first = heard.lines().next().unwrap_or_default();
        assert!(first.starts_with("mg sha256:") && first.ends_with(" v c t"), "{key:?}: {first}");
        assert!(!heard.contains("flush_all"), "{heard}");
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_an_error_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let l2 = MemcachedL2::new(listener.local_addr().expect("its address").to_string());
    drop(listener);
    assert!(l2.ping().await.is_err());
    // On a slow machine the pause may be over at the next call.
    eventually("lines are not made without a pause", || async {
        let error = l2.ping().await.expect_err("still away");
        error.0.contains("a moment ago").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_real_one_keeps_what_fits_and_says_how_full_it_is() {
    if memcached_server::binary().is_none() {
        return;
    }
    let (l2, key) = (MemcachedL2::new(MemcachedServer::shared().address()), fresh_namespace());
    l2.ping().await.expect("it answers");
    for (size, expected) in [(1 << 20, Filled::Released), (1_040_000, Filled::Kept)] {
        assert_eq!(l2.fetch(&fetch(&key), "a", LEASE).await.expect("L2 answers"), [Fetched::Leased]);
        let value = Bytes::from(vec![b'x'; size]);
        let fill = Fill { key: key.clone(), value: Some((1, value)), lifetime: Duration::from_secs(60) };
        assert_eq!(l2.fill(&[fill], "a").await.expect("L2 answers"), [expected], "{size} bytes");
    }
    let hit = l2.fetch(&fetch(&key), "b", LEASE).await.expect("L2 answers");
    assert!(matches!(&hit[0], Fetched::Hit { version: 1, value } if value.len() == 1_040_000));
    let memory = l2.memory().await.expect("L2 answers");
    assert!(memory[0].used_bytes > 1_000_000 && memory[0].limit_bytes == Some(64 << 20), "{memory:?}");
    assert!(memory[0].evicts(), "{memory:?}");
}
