//! TLS towards the server, with libpq's meanings of `sslmode`, by rustls.
//!
//! `require` encrypts and does not ask who the server is; `verify-ca` wants a certificate of a known authority;
//! `verify-full` one for this very host. The known authorities are those of `sslrootcert`, else of
//! `~/.postgresql/root.crt`, else the operating system's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::dsn::{RootCert, SslMode};

/// Why TLS cannot be set up at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("cannot read the authorities in {}: {detail}", path.display())]
    File { path: PathBuf, detail: String },
    #[error("no authorities are known: name a file of certificates with sslrootcert=FILE ({detail})")]
    NoAuthorities { detail: String },
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// Makes what hands TLS connections out. The authorities are read once, here.
pub(super) fn connector(mode: SslMode, roots: Option<&RootCert>) -> Result<MakeRustlsConnect, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let verifier: Arc<dyn ServerCertVerifier> = match mode {
        SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require => Arc::new(Anybody(provider)),
        SslMode::VerifyCa | SslMode::VerifyFull => {
            let known = Arc::new(authorities(roots)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(known, provider)
                .build()
                .map_err(|error| TlsError::NoAuthorities { detail: error.to_string() })?;
            if mode == SslMode::VerifyFull { verifier } else { Arc::new(AnyName(verifier)) }
        }
    };
    let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn authorities(roots: Option<&RootCert>) -> Result<RootCertStore, TlsError> {
    match roots {
        Some(RootCert::File(path)) => of_file(path),
        Some(RootCert::System) => of_system(),
        None => {
            let usual = std::env::home_dir().map(|home| home.join(".postgresql/root.crt"));
            match usual.filter(|path| path.is_file()) {
                Some(path) => of_file(&path),
                None => of_system(),
            }
        }
    }
}

fn of_file(path: &Path) -> Result<RootCertStore, TlsError> {
    let fail = |detail: String| TlsError::File { path: path.to_owned(), detail };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fail(error.to_string()))? {
        let certificate = certificate.map_err(|error| fail(error.to_string()))?;
        store.add(certificate).map_err(|error| fail(error.to_string()))?;
    }
    if store.is_empty() { Err(fail("it holds no certificate".to_owned())) } else { Ok(store) }
}

fn of_system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (taken, _) = store.add_parsable_certificates(found.certs);
    if taken > 0 {
        return Ok(store);
    }
    let detail = found.errors.first().map_or_else(|| "the system has none".to_owned(), ToString::to_string);
    Err(TlsError::NoAuthorities { detail })
}

/// Takes every certificate; the handshake still proves that the server has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes a certificate of a known authority, whatever name it is for. The chain is checked before the name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        match self.0.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
