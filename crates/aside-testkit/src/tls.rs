//! Servers that speak TLS. Each is a proxy in front of a plain server, with a certificate of a
//! temporary authority.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer},
        server::WebPkiClientVerifier,
    },
};

use super::Temporary;

/// An authority that signs certificates. Dropping it removes its files.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: Temporary,
}

/// A certificate and its key.
pub struct Certified {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    /// The PEM files of the certificate and the key.
    pub files: (PathBuf, PathBuf),
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// Creates an authority that no client trusts yet.
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let folder = Temporary::folder("tls");
        std::fs::write(folder.join("ca.pem"), issuer.pem()).expect("its certificate");
        Self { issuer, folder }
    }

    /// Returns the file of its own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Creates a certificate for a name or an address.
    pub fn certify(&self, name: &str) -> Certified {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let files = (self.folder.join(format!("{name}.pem")), self.folder.join(format!("{name}.key")));
        std::fs::write(&files.0, certificate.pem()).expect("the certificate");
        std::fs::write(&files.1, key.serialize_pem()).expect("the key");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        Certified { certificate: certificate.der().clone(), key, files }
    }
}

/// The exchange before TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// No exchange.
    None,
    /// The request of a Postgres client to begin TLS.
    Postgres,
}

/// A server that speaks TLS only. Dropping its handle ends it.
pub struct TlsServer {
    address: SocketAddr,
    listener: JoinHandle<()>,
}

impl TlsServer {
    /// Speaks TLS with this certificate for the plain server at `target`. If `clients` is given,
    /// each client must present a certificate of that authority.
    pub async fn before(target: String, greeting: Greeting, own: &Certified, clients: Option<&Authority>) -> Self {
        let builder = ServerConfig::builder();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut known = RootCertStore::empty();
                known.add(authority.issuer.der().clone()).expect("an authority");
                builder
                    .with_client_cert_verifier(WebPkiClientVerifier::builder(known.into()).build().expect("a verifier"))
            }
        };
        let config =
            builder.with_single_cert(vec![own.certificate.clone()], own.key.clone_key()).expect("a certificate");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let listener = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(speak(stream, target.clone(), greeting, acceptor.clone()));
            }
        });
        Self { address, listener }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn speak(
    mut stream: TcpStream,
    target: String,
    greeting: Greeting,
    acceptor: TlsAcceptor,
) -> std::io::Result<()> {
    if greeting == Greeting::Postgres {
        let mut question = [0; 8];
        stream.read_exact(&mut question).await?;
        if question != [0, 0, 0, 8, 4, 210, 22, 47] {
            // A client that does not ask for TLS gets no answer.
            return Ok(());
        }
        stream.write_all(b"S").await?;
    }
    let mut secret = acceptor.accept(stream).await?;
    let mut plain = TcpStream::connect(target).await?;
    copy_bidirectional(&mut secret, &mut plain).await?;
    Ok(())
}
