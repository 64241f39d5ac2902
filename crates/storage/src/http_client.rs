//! The HTTP connections of the process: one pool for each set of trusted certificates, TLS by rustls, and names
//! resolved under a rule about which addresses may be spoken to.

use crate::config::ConfigError;
use crate::payload::Payload;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::{Handle, Id};

/// More connections than this to one store stay open only while they are in use.
const IDLE_CONNECTIONS: usize = 256;
/// Below what stores and load balancers close connections after, so that a request rarely meets a closing one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

pub(crate) type HttpClient = Client<HttpsConnector<HttpConnector<Resolver>>, Payload>;

/// What tells one pool of connections from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientKind {
    pub(crate) extra_root_certificates_pem: Option<Vec<u8>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) addresses: Addresses,
}

/// Which addresses may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Addresses {
    /// All of them.
    Any,
    /// Those on the public internet, so that no request can be steered at the network we are in.
    Public,
}

/// The client of this kind; the same one for everybody on this async runtime, whose end is also the end of the
/// connections.
pub(crate) fn client(kind: &ClientKind) -> Result<HttpClient, ConfigError> {
    type Known = (Option<Id>, ClientKind, HttpClient);
    static CLIENTS: Mutex<Vec<Known>> = Mutex::new(Vec::new());
    let runtime = Handle::try_current().ok().map(|handle| handle.id());
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let known = clients
        .iter()
        .find(|(id, known, _)| *id == runtime && known == kind);
    if let Some((_, _, client)) = known {
        return Ok(client.clone());
    }
    let client = build(kind)?;
    clients.push((runtime, kind.clone(), client.clone()));
    Ok(client)
}

fn build(kind: &ClientKind) -> Result<HttpClient, ConfigError> {
    let mut http = HttpConnector::new_with_resolver(Resolver(kind.addresses));
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_keepalive(Some(Duration::from_secs(60)));
    http.set_connect_timeout(Some(kind.connect_timeout));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls_config(kind.extra_root_certificates_pem.as_deref())?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .build(connector))
}

fn tls_config(extra_pem: Option<&[u8]>) -> Result<ClientConfig, ConfigError> {
    let mut roots = system_roots().clone();
    if let Some(pem) = extra_pem {
        let mut found = false;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| ConfigError::Certificates(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| ConfigError::Certificates(error.to_string()))?;
            found = true;
        }
        if !found {
            return Err(ConfigError::Certificates("there is none in the text".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// The authorities this system trusts, and Mozilla's where it names none (as in a bare container).
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        roots
    })
}

/// Resolves names, and drops the addresses that may not be connected to: at every resolution, so that a name
/// cannot first point to a good address and then to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resolver(Addresses);

impl tower_service::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let addresses = self.0;
        Box::pin(async move {
            let mut found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if addresses == Addresses::Public {
                found.retain(|address| is_public(address.ip()));
                if found.is_empty() {
                    return Err(io::Error::other("the name leads to no public address"));
                }
            }
            Ok(found.into_iter())
        })
    }
}

/// The address is on the public internet.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    let benchmark = a == 198 && matches!(b, 18 | 19);
    !(a == 0
        || a >= 224
        || shared
        || protocol
        || benchmark
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation())
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        // Addresses of version 4 in their various disguises: compatible, mapped, translated, 6to4.
        (0, 0) if [c, d, e] == [0; 3] && matches!(f, 0 | 0xffff) => embedded(g, h),
        (0x64, 0xff9b) => [c, d, e, f] == [0; 4] && embedded(g, h),
        (0x2002, _) => embedded(b, c),
        // Teredo and documentation.
        (0x2001, 0 | 0x0db8) => false,
        // All the global unicast space there is so far.
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_inner_networks_are_told_from_public_ones() {
        for inner in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
        ] {
            assert!(!is_public(inner.parse().unwrap()), "{inner}");
        }
        for public in [
            "52.218.0.1",
            "8.8.8.8",
            "2600:1fa0::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn certificates_that_are_none_are_refused() {
        for wrong in [
            "",
            "no certificate",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert!(
                matches!(
                    tls_config(Some(wrong.as_bytes())),
                    Err(ConfigError::Certificates(_))
                ),
                "{wrong}"
            );
        }
    }

    #[tokio::test]
    async fn names_that_lead_inside_are_not_resolved_for_public_use() {
        use tower_service::Service as _;
        let name: Name = "localhost".parse().unwrap();
        assert!(Resolver(Addresses::Any).call(name.clone()).await.is_ok());
        assert!(Resolver(Addresses::Public).call(name).await.is_err());
    }
}
