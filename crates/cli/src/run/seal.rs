//! `--seal`, and `agent --kernel`: by what an agent agrees on keys.

use crate::args::{KeysArgs, RunArgs};
use crate::failure::Failure;
use crate::output;
use secure_rdma::Report;
use secure_rdma::certs::{CertsError, Name, host_names};
use secure_rdma::pair::PairAgent;
use secure_rdma_keys::Settings;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What the program's environment says of it, if its packets are to be sealed.
pub(super) fn settings(args: &RunArgs, address: IpAddr) -> Result<Option<String>, Failure> {
    if !args.seal.seal {
        return Ok(None);
    }
    settings_for(&args.seal.keys, address)?.to_text().map(Some).map_err(|error| failed(&error))
}

/// By what the agent at `address` agrees on keys. Its certificate is made here if there is none yet; every file that it
/// will read is tried.
pub(super) fn settings_for(args: &KeysArgs, address: IpAddr) -> Result<Settings, Failure> {
    let KeysArgs { peers, certs, crl, allow, seal_port, rekey_after } = args;
    let store = certs.store()?;
    let is_new = matches!(store.authority(), Err(CertsError::NoAuthority { .. }));
    let mut names = vec![Name::from(address)];
    names.extend(host_names()?.into_iter().filter(|name| *name != Name::from(address)));
    store.ensure_agent(&names)?;
    if is_new {
        output::note(format_args!(
            "made a NEW private CA in {}: hosts whose agents have certificates of another one won't trust this one",
            store.dir().display()
        ));
    }
    let absolute = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
    let settings = Settings {
        certs: self::absolute(store.dir())?,
        crl: absolute(crl)?,
        allow: absolute(allow)?,
        peers: absolute(peers)?,
        port: seal_port.get(),
        rekey_after: *rekey_after,
    };
    let options = settings.options(address).map_err(|error| failed(&error))?;
    PairAgent::new(options).map_err(|error| failed(&error))?;
    Ok(settings)
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::Other(Report::new(error).to_string())
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(Failure::system("finding the current directory"))
}
