//! A distant Postgres, for the service and for the plain program through the same proxy. 64 clients
//! read a cold catalogue.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::Instant,
};

use crate::{
    goals::{Goal, ratios},
    miss::cold,
    pace::blocking,
    peers::Peers,
    server::{Program, Sample},
};

/// The delay in one direction. A round trip takes twice this.
const ONE_WAY: Duration = Duration::from_millis(10);
const CLIENTS: usize = 64;
const SECONDS: f64 = 2.5;

pub async fn measure(peers: &Peers, postgres: SocketAddr, rounds: usize) -> Vec<Goal> {
    let (address, proxy) = far_away(postgres).await;
    let url = format!("postgres://aside@{address}/aside");
    let plain = Program::peer("plain", "plain", &url, "", &format!("/products/{}", peers.catalogue.popular(1)[0]));
    let aside = Program::aside("Aside", &peers.aside, &url, "");
    let (mut of_plain, mut of_aside) = (Vec::<Sample>::new(), Vec::<Sample>::new());
    for _ in 0..rounds {
        of_plain.push(blocking(|| cold(&plain, &peers.catalogue, CLIENTS, SECONDS)));
        of_aside.push(blocking(|| cold(&aside, &peers.catalogue, CLIENTS, SECONDS)));
        eprintln!("  plain: {:?}\n  Aside: {:?}", of_plain.last(), of_aside.last());
    }
    proxy.abort();
    let rates = |samples: &[Sample]| samples.iter().map(|sample| sample.rate).collect::<Vec<_>>();
    let lost: f64 = of_aside.iter().map(|sample| sample.refused + sample.failed).sum();
    let all: f64 = of_aside.iter().map(|sample| sample.refused + sample.failed + sample.answered).sum();
    let way = 2 * ONE_WAY.as_millis();
    vec![
        Goal::at_least(
            format!("Postgres {way} ms away, cold catalogue, {CLIENTS} clients: answers/s against plain"),
            &ratios(&rates(&of_aside), &rates(&of_plain)),
            2.0,
        ),
        Goal::none("the same: refused or failed", lost, all),
    ]
}

/// A proxy that delays every piece by a fixed time. It delays any number of pieces at the same
/// time. So it changes only the latency and not the throughput.
async fn far_away(target: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the proxy");
    let address = listener.local_addr().expect("the proxy's address");
    let accepting = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, target));
        }
    });
    (address, accepting)
}

async fn serve(client: TcpStream, target: SocketAddr) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    tokio::join!(deliver_late(client_reads, server_writes), deliver_late(server_reads, client_writes));
}

async fn deliver_late(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let (pieces, mut on_their_way) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let _ = pieces.send((Instant::now() + ONE_WAY, buffer[..length].to_vec()));
        }
    };
    let write = async move {
        while let Some((due, piece)) = on_their_way.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
