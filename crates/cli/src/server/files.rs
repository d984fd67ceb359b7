//! The directory that a server offers: `--files`.

use crate::args::{ClientAuthMode, ServerArgs};
use crate::failure::Failure;
use secure_rdma_files::{FilesError, Service, ServiceOptions};

/// Bytes of a region that files need: four pages, to have several pieces under way.
const REGION: u64 = 16 << 10;

/// What the arguments' own rules can't say.
pub(super) fn check(args: &ServerArgs) -> Result<(), Failure> {
    if args.files_write && args.files.is_none() {
        return Err(Failure::Usage(
            "--files-write needs --files: the directory that clients put files into".into(),
        ));
    }
    if args.files.is_some() && args.region.0 < REGION {
        return Err(Failure::Usage(format!(
            "--files needs --region 16K or more: files are moved through clients' regions, and {} bytes are too few",
            args.region.0
        )));
    }
    Ok(())
}

/// The directory that the arguments offer, if they do.
pub(super) fn offer(args: &ServerArgs) -> Result<Option<Service>, Failure> {
    let Some(path) = &args.files else { return Ok(None) };
    let options = ServiceOptions::default().writable(args.files_write).max_file(args.files_max.0);
    let service = Service::open(path, options).map_err(|source| {
        Failure::from(FilesError::Name { name: format!("--files {}", path.display()), source })
    })?;
    Ok(Some(service))
}

/// What it means, in words.
pub(super) fn offered(args: &ServerArgs) -> Option<String> {
    let path = args.files.as_ref()?.display();
    let who = match (args.client_auth.mode, &args.allow) {
        (ClientAuthMode::Required, Some(_)) => "clients whom the list lets",
        (ClientAuthMode::Required, None) => "every client",
        (ClientAuthMode::Optional | ClientAuthMode::Off, _) => "ANYONE who reaches this port",
    };
    Some(match args.files_write {
        true => format!("{path}, to be read AND WRITTEN by {who}"),
        false => format!("{path}, to be read by {who}"),
    })
}
