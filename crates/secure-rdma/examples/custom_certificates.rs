//! Certificates of one's own: a CA that this project doesn't know, in PEM and DER form and in rustls' types, and a list
//! of who may do what.

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use secure_rdma::{AllowList, Authorities, Client, ClientAuth, ClientTrust, Identity, Report, Server};
use std::error::Error;
use std::sync::Arc;

/// Two clients; one may only read.
const ALLOWED: &str = r#"
[[client]]
identity = "dns:writer.example"
operations = ["write", "read"]

[[client]]
identity = "dns:reader.example"
operations = ["read"]
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    let issue = |name: &str, usage| -> Result<_, rcgen::Error> {
        let (key, mut params) = (KeyPair::generate()?, CertificateParams::new([name.to_owned()])?);
        params.extended_key_usages = vec![usage];
        Ok((params.signed_by(&key, &issuer)?, key))
    };

    // The server's, in PEM form, as a secret store hands them out.
    let (certificate, key) = issue("storage.example", ExtendedKeyUsagePurpose::ServerAuth)?;
    let identity = Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())?;
    let trust = ClientTrust::new(Authorities::Pem(ca.pem().into())).allowed(AllowList::from_toml(ALLOWED)?);
    let server = Server::builder(identity, ClientAuth::Required(trust)).bind("127.0.0.1:0").await?;
    let port = server.local_addr().port();
    let accepting = tokio::spawn(async move {
        loop {
            let mut session = server.accept().await;
            tokio::spawn(async move { while let Ok(Some(_)) = session.recv().await {} });
        }
    });

    // The clients', in DER form; whom they trust, as rustls has it.
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone())?;
    let roots = Arc::new(roots);
    for name in ["writer.example", "reader.example", "stranger.example"] {
        let (certificate, key) = issue(name, ExtendedKeyUsagePurpose::ClientAuth)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())?;
        let identity = Identity::from_der(vec![certificate.der().clone()], key)?;
        let client = Client::builder(Arc::clone(&roots)).identity(identity);
        let written = match client.connect("127.0.0.1", port, &"storage.example".parse()?).await {
            Ok(mut session) => session.write(0, b"x").await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => println!("{name}: written"),
            Err(error) if error.is_refused() => println!("{name}: {}", Report::new(&error)),
            Err(error) => return Err(error.into()),
        }
    }
    accepting.abort();
    Ok(())
}
