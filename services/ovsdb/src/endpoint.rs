// SPDX-License-Identifier: Apache-2.0
//! Where a database is, and how it is reached.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

/// Where a database is, in the notation of ovs-vsctl(8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `unix:PATH`
    Unix(PathBuf),
    /// `tcp:HOST:PORT`, with brackets around an IPv6 address.
    Tcp(String, u16),
    /// `ssl:HOST:PORT`
    Tls(String, u16),
}

/// The files of a TLS connection, in PEM; both sides show certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our key.
    pub private_key: PathBuf,
    /// Our certificate.
    pub certificate: PathBuf,
    /// Certificates of who signs the server's.
    pub ca: PathBuf,
}

/// Not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no database: allowed are unix:PATH, tcp:HOST:PORT and ssl:HOST:PORT")]
pub struct BadEndpoint(String);

/// Why a database can't be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody is there, or we may not.
    #[error("nothing answers there")]
    Io(#[source] io::Error),
    /// A file for TLS is missing or wrong.
    #[error("{} can't be used for TLS: {reason}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS without its files.
    #[error("ssl needs a private key, a certificate and the certificate of a CA")]
    NoFiles,
    /// TLS as such.
    #[error("TLS can't be spoken: {0}")]
    Tls(String),
}

/// A connection of any kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

impl Endpoint {
    pub(crate) async fn connect(
        &self,
        tls: Option<&TlsFiles>,
    ) -> Result<Box<dyn Stream>, ConnectError> {
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(ConnectError::Io)?;
                Ok(Box::new(stream))
            }
            Self::Tcp(host, port) => Ok(Box::new(tcp(host, *port).await?)),
            Self::Tls(host, port) => {
                let config = config(tls.ok_or(ConnectError::NoFiles)?)?;
                let name = ServerName::try_from(host.clone())
                    .map_err(|error| ConnectError::Tls(error.to_string()))?;
                let stream = tcp(host, *port).await?;
                let stream = TlsConnector::from(Arc::new(config))
                    .connect(name, stream)
                    .await
                    .map_err(|error| ConnectError::Tls(error.to_string()))?;
                Ok(Box::new(stream))
            }
        }
    }
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(ConnectError::Io)?;
    // Requests are answered one by one; none should wait for the next.
    stream.set_nodelay(true).map_err(ConnectError::Io)?;
    Ok(stream)
}

fn config(files: &TlsFiles) -> Result<ClientConfig, ConnectError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(&files.ca, &error))?;
    }
    let key = PrivateKeyDer::from_pem_file(&files.private_key)
        .map_err(|error| unusable(&files.private_key, &error))?;
    let certificate = certificates(&files.certificate)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| unusable(&files.ca, &error))?;
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Tls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(SignedByCa(verifier)))
        .with_client_auth_cert(certificate, key)
        .map_err(|error| unusable(&files.certificate, &error))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(file, &error));
    match all {
        Ok(none) if none.is_empty() => Err(unusable(file, &"it holds no certificate")),
        all => all,
    }
}

fn unusable(file: &Path, reason: &dyn fmt::Display) -> ConnectError {
    ConnectError::File {
        file: file.to_owned(),
        reason: reason.to_string(),
    }
}

/// Certificates of Open vSwitch are made by ovs-pki(8) and name no host: who
/// the CA has signed for is trusted, as with all of its own programs.
#[derive(Debug)]
struct SignedByCa(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for SignedByCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            // The name is looked at last, when all else was found right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let bad = || BadEndpoint(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(bad)?;
        if kind == "unix" {
            let path = Some(rest).filter(|path| !path.is_empty());
            return path.map(|path| Self::Unix(path.into())).ok_or_else(bad);
        }
        let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        // Without brackets nobody knows where an IPv6 address ends.
        let plain = Some(host).filter(|host| !host.contains(':'));
        let host = bare
            .or(plain)
            .filter(|host| !host.is_empty())
            .ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        match kind {
            "tcp" => Ok(Self::Tcp(host.to_owned(), port)),
            "ssl" => Ok(Self::Tls(host.to_owned(), port)),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, host, port) = match self {
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
            Self::Tcp(host, port) => ("tcp", host, port),
            Self::Tls(host, port) => ("ssl", host, port),
        };
        if host.contains(':') {
            write!(f, "{kind}:[{host}]:{port}")
        } else {
            write!(f, "{kind}:{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_what_ovs_vsctl_takes() {
        for text in [
            "unix:/run/openvswitch/db.sock",
            "tcp:127.0.0.1:6640",
            "tcp:[::1]:6640",
            "ssl:db.example:6640",
        ] {
            let endpoint: Endpoint = text.parse().expect("an endpoint");
            assert_eq!(endpoint.to_string(), text);
        }
        for text in [
            "",
            "unix:",
            "tcp:host",
            "tcp:::1:6640",
            "tcp::6640",
            "udp:h:1",
            "ssl:h:99999",
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(BadEndpoint(text.to_owned())));
        }
    }
}
