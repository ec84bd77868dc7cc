//! `gateway cert dev`: an authority of one's own, and a certificate signed by it.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::{Pem, parse_x509_pem};
use x509_parser::time::ASN1Time;

use super::{CertDevArgs, Failure};

/// The names a certificate is for when none are given: this machine, and the host of the examples.
pub const DEFAULT_HOSTS: [&str; 5] = ["localhost", "*.localhost", "shop.example", "127.0.0.1", "::1"];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * DAY.as_secs());
/// Browsers take no certificate that lives longer than 398 days.
const LEAF_LIFE: Duration = Duration::from_secs(365 * DAY.as_secs());
/// What expires sooner than this is made anew.
const MARGIN: Duration = Duration::from_secs(30 * DAY.as_secs());
/// Clocks of containers and virtual machines lag.
const BACKDATE: Duration = DAY;

/// Why no certificate was written.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file could not be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// `read` or `write`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that stands in the way was not made by this command.
    #[error("{} is in the way: {reason}. Move it, or choose another directory with --out", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What is odd about it.
        reason: &'static str,
    },
    /// A name that no certificate can be for, or a key that cannot be made.
    #[error("cannot make a certificate for {hosts}: {source}")]
    Refused {
        /// The names asked for.
        hosts: String,
        /// Why.
        source: rcgen::Error,
    },
}

/// What [`ensure`] did to a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was there and still serves.
    Kept,
    /// There was none.
    Created,
    /// It was about to expire, was for other names, or its authority is new.
    Renewed,
}

/// The four files [`ensure`] leaves in a directory.
#[derive(Debug, Clone)]
pub struct DevCertificates {
    /// `ca.pem`, what clients must trust.
    pub ca: PathBuf,
    /// `ca.key`, readable by its owner alone, like `key`.
    pub ca_key: PathBuf,
    /// `cert.pem`.
    pub cert: PathBuf,
    /// `key.pem`.
    pub key: PathBuf,
    /// What was done to the authority.
    pub authority: Change,
    /// What was done to the certificate.
    pub leaf: Change,
}

/// Leaves in `directory` an authority and a certificate of it for exactly `hosts` (DNS names, `*.` included, and IP
/// addresses), both good for at least 30 days after `now`. ECDSA P-256. The directory is made when it is not there.
///
/// # Errors
/// [`CertError::Foreign`] rather than overwriting what another hand has made.
pub fn ensure(directory: &Path, hosts: &[String], now: SystemTime) -> Result<DevCertificates, CertError> {
    fs::create_dir_all(directory).map_err(|source| CertError::File {
        what: "write",
        path: directory.to_owned(),
        source,
    })?;
    let hosts = &normal(hosts);
    let mut files = DevCertificates {
        ca: directory.join("ca.pem"),
        ca_key: directory.join("ca.key"),
        cert: directory.join("cert.pem"),
        key: directory.join("key.pem"),
        authority: Change::Kept,
        leaf: Change::Kept,
    };
    let old = read(&files.ca)?.map(|pem| parsed(pem, &files.ca)).transpose()?;
    files.leaf = leaf_change(&files, old.as_ref(), hosts, now)?;

    let authority = match authority(&files, old, now)? {
        Some(authority) => authority,
        None => {
            files.authority = if files.ca.exists() { Change::Renewed } else { Change::Created };
            if files.leaf == Change::Kept {
                files.leaf = Change::Renewed;
            }
            create_authority(&files, now)?
        }
    };
    if files.leaf != Change::Kept {
        create_leaf(&files, &authority, hosts, now)?;
    }
    Ok(files)
}

/// Runs [`ensure`] and tells what it did and how to trust it.
///
/// # Errors
/// [`Failure::Failed`] with the sentence of the [`CertError`].
pub fn run(args: &CertDevArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let files = ensure(&args.out, &args.hosts, SystemTime::now())
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let told = |change| match change {
        Change::Kept => "kept",
        Change::Created => "created",
        Change::Renewed => "renewed",
    };
    writeln!(out, "authority    {}  {}", files.ca.display(), told(files.authority))?;
    writeln!(
        out,
        "certificate  {}  {}, for {}",
        files.cert.display(),
        told(files.leaf),
        args.hosts.join(", ")
    )?;
    writeln!(
        out,
        "\nTrust it for one command:  curl --cacert {} https://localhost:8443/",
        files.ca.display()
    )?;
    writeln!(out, "Browsers: import {} as an authority for web sites.", files.ca.display())?;
    Ok(())
}

/// What has to be done to the certificate while its authority stays.
fn leaf_change(
    files: &DevCertificates,
    authority: Option<&Pem>,
    hosts: &[String],
    now: SystemTime,
) -> Result<Change, CertError> {
    let foreign = |path: &Path, reason| CertError::Foreign { path: path.to_owned(), reason };
    let Some(pem) = read(&files.cert)? else {
        return match files.key.exists() {
            true => Err(foreign(&files.key, "there is no cert.pem beside it")),
            false => Ok(Change::Created),
        };
    };
    let pem = parsed(pem, &files.cert)?;
    let leaf = x509(&pem, &files.cert)?;
    let signed = match authority {
        Some(authority) => leaf.verify_signature(Some(x509(authority, &files.ca)?.public_key())).is_ok(),
        None => false,
    };
    if !signed {
        return Err(foreign(&files.cert, "the authority in ca.pem did not sign it"));
    }
    let key_fits = match read(&files.key)? {
        None => false,
        Some(key) => {
            let key = KeyPair::from_pem(&key).map_err(|_| foreign(&files.key, "it is not a key in PEM"))?;
            key.subject_public_key_info() == leaf.public_key().raw
        }
    };
    let serves = key_fits && lasts(&leaf, now) && names(&leaf) == sorted(hosts.to_vec());
    Ok(if serves { Change::Kept } else { Change::Renewed })
}

/// The authority on disk; `None` when there is none, or none that lasts.
fn authority(
    files: &DevCertificates,
    certificate: Option<Pem>,
    now: SystemTime,
) -> Result<Option<Issuer<'static, KeyPair>>, CertError> {
    let foreign = |path: &Path, reason| CertError::Foreign { path: path.to_owned(), reason };
    let (pem, key) = match (certificate, read(&files.ca_key)?) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(foreign(&files.ca, "there is no ca.key beside it")),
        (None, Some(_)) => return Err(foreign(&files.ca_key, "there is no ca.pem beside it")),
        (Some(pem), Some(key)) => (pem, key),
    };
    let key = KeyPair::from_pem(&key).map_err(|_| foreign(&files.ca_key, "it is not a key in PEM"))?;
    let certificate = x509(&pem, &files.ca)?;
    if key.subject_public_key_info() != certificate.public_key().raw {
        return Err(foreign(&files.ca_key, "it is not the key of ca.pem"));
    }
    if !lasts(&certificate, now) {
        return Ok(None);
    }
    let der = pem.contents.clone().into();
    Issuer::from_ca_cert_der(&der, key).map(Some).map_err(|_| foreign(&files.ca, "it is not an authority"))
}

fn create_authority(files: &DevCertificates, now: SystemTime) -> Result<Issuer<'static, KeyPair>, CertError> {
    let refused = |source| CertError::Refused { hosts: "an authority".into(), source };
    let key = KeyPair::generate().map_err(refused)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Gateway development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + AUTHORITY_LIFE).into();
    let certificate = params.self_signed(&key).map_err(refused)?;

    write(&files.ca_key, &key.serialize_pem(), 0o600)?;
    write(&files.ca, &certificate.pem(), 0o644)?;
    Ok(Issuer::new(params, key))
}

fn create_leaf(
    files: &DevCertificates,
    authority: &Issuer<'static, KeyPair>,
    hosts: &[String],
    now: SystemTime,
) -> Result<(), CertError> {
    let refused = |source| CertError::Refused { hosts: hosts.join(", "), source };
    let key = KeyPair::generate().map_err(refused)?;
    let mut params = CertificateParams::new(hosts).map_err(refused)?;
    let name = hosts.first().map_or("localhost", String::as_str);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + LEAF_LIFE).into();
    let certificate = params.signed_by(&key, authority).map_err(refused)?;

    write(&files.key, &key.serialize_pem(), 0o600)?;
    write(&files.cert, &certificate.pem(), 0o644)
}

fn lasts(certificate: &X509Certificate<'_>, now: SystemTime) -> bool {
    let then = now + MARGIN;
    let seconds = then.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let then = ASN1Time::from_timestamp(i64::try_from(seconds).unwrap_or(i64::MAX));
    then.is_ok_and(|then| certificate.validity().is_valid_at(then))
}

/// The names a certificate is for, in order.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |general: &GeneralName<'_>| match general {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|octets| IpAddr::from(octets).to_string()),
        },
        _ => None,
    };
    sorted(extension.value.general_names.iter().filter_map(name).collect())
}

/// Addresses in their short form and names in lower case, as a certificate holds them.
fn normal(hosts: &[String]) -> Vec<String> {
    let one =
        |host: &String| host.parse::<IpAddr>().map_or_else(|_| host.to_lowercase(), |ip| ip.to_string());
    hosts.iter().map(one).collect()
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

fn parsed(pem: String, path: &Path) -> Result<Pem, CertError> {
    let foreign = |_| CertError::Foreign { path: path.to_owned(), reason: "it is not a certificate in PEM" };
    parse_x509_pem(pem.as_bytes()).map(|(_, pem)| pem).map_err(foreign)
}

fn x509<'a>(pem: &'a Pem, path: &Path) -> Result<X509Certificate<'a>, CertError> {
    let foreign = |_| CertError::Foreign { path: path.to_owned(), reason: "it is not a certificate in PEM" };
    pem.parse_x509().map_err(foreign)
}

fn read(path: &Path) -> Result<Option<String>, CertError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CertError::File { what: "read", path: path.to_owned(), source }),
    }
}

/// Writes beside `path` and renames, so that a running gateway never reads half a file.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertError> {
    let beside = path.with_extension("new");
    let written = || -> io::Result<()> {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&beside, path)
    };
    written().map_err(|source| CertError::File { what: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn hosts(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn certificate(path: &Path) -> Pem {
        parsed(fs::read_to_string(path).expect("written"), path).expect("a certificate")
    }

    #[test]
    fn a_fresh_directory_gets_a_leaf_that_the_authority_signed() {
        let directory = tempfile::tempdir().expect("a directory");
        let files =
            ensure(&directory.path().join("certs"), &hosts(&DEFAULT_HOSTS), SystemTime::now()).expect("made");

        assert_eq!((files.authority, files.leaf), (Change::Created, Change::Created));
        let (ca, leaf) = (certificate(&files.ca), certificate(&files.cert));
        let (ca, leaf) = (ca.parse_x509().expect("x509"), leaf.parse_x509().expect("x509"));
        assert!(ca.is_ca() && !leaf.is_ca());
        leaf.verify_signature(Some(ca.public_key())).expect("signed by the authority");
        assert_eq!(leaf.issuer(), ca.subject());
        assert_eq!(names(&leaf), sorted(hosts(&DEFAULT_HOSTS)));
    }

    #[test]
    fn keys_are_readable_by_their_owner_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = ensure(directory.path(), &hosts(&["localhost"]), SystemTime::now()).expect("made");
        for path in [files.ca_key, files.key] {
            assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600, "{path:?}");
        }
    }

    #[test]
    fn what_still_serves_is_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let now = SystemTime::now();
        let first = ensure(directory.path(), &hosts(&["a.example", "::1"]), now).expect("made");
        let bytes = fs::read(&first.cert).expect("read");

        let again =
            ensure(directory.path(), &hosts(&["0:0::1", "A.example"]), now + 300 * DAY).expect("kept");

        assert_eq!((again.authority, again.leaf), (Change::Kept, Change::Kept));
        assert_eq!(fs::read(&again.cert).expect("read"), bytes);
    }

    #[test]
    fn other_names_or_a_near_end_renew_the_leaf_under_the_same_authority() {
        let directory = tempfile::tempdir().expect("a directory");
        let now = SystemTime::now();
        let first = ensure(directory.path(), &hosts(&["a.example"]), now).expect("made");
        let authority = fs::read(&first.ca).expect("read");

        for (names, now) in [(["b.example"], now), (["b.example"], now + 340 * DAY)] {
            let again = ensure(directory.path(), &hosts(&names), now).expect("renewed");
            assert_eq!((again.authority, again.leaf), (Change::Kept, Change::Renewed));
        }
        assert_eq!(fs::read(&first.ca).expect("read"), authority);
        let (ca, leaf) = (certificate(&first.ca), certificate(&first.cert));
        let ca = ca.parse_x509().expect("x509");
        leaf.parse_x509().expect("x509").verify_signature(Some(ca.public_key())).expect("signed");
    }

    #[test]
    fn an_authority_near_its_end_is_renewed_with_its_leaf() {
        let directory = tempfile::tempdir().expect("a directory");
        let now = SystemTime::now();
        ensure(directory.path(), &hosts(&["a.example"]), now).expect("made");
        let again = ensure(directory.path(), &hosts(&["a.example"]), now + 3640 * DAY).expect("renewed");
        assert_eq!((again.authority, again.leaf), (Change::Renewed, Change::Renewed));
    }

    #[test]
    fn a_leaf_of_another_authority_is_never_overwritten() {
        let (mine, theirs) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let now = SystemTime::now();
        let files = ensure(mine.path(), &hosts(&["a.example"]), now).expect("made");
        let other = ensure(theirs.path(), &hosts(&["b.example"]), now).expect("made");
        fs::copy(&other.cert, &files.cert).expect("copied");

        let error = ensure(mine.path(), &hosts(&["a.example"]), now).expect_err("not ours");

        assert!(error.to_string().contains("did not sign it"), "{error}");
        assert_eq!(fs::read(&files.cert).expect("read"), fs::read(&other.cert).expect("read"));
    }

    #[test]
    fn half_a_pair_is_never_completed_by_guessing() {
        for (lost, told) in [("ca.key", "no ca.key"), ("ca.pem", "did not sign"), ("cert.pem", "no cert.pem")]
        {
            let directory = tempfile::tempdir().expect("a directory");
            ensure(directory.path(), &hosts(&["a.example"]), SystemTime::now()).expect("made");
            fs::remove_file(directory.path().join(lost)).expect("removed");

            let error = ensure(directory.path(), &hosts(&["a.example"]), SystemTime::now()).expect_err(lost);
            assert!(error.to_string().contains(told), "{lost}: {error}");
        }
    }

    #[test]
    fn a_name_outside_ascii_is_refused_before_anything_is_lost() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = ensure(directory.path(), &hosts(&["a.example"]), SystemTime::now()).expect("made");
        let error =
            ensure(directory.path(), &hosts(&["bücher.example"]), SystemTime::now()).expect_err("refused");
        assert!(error.to_string().contains("bücher.example"), "{error}");
        assert_eq!(names(&certificate(&files.cert).parse_x509().expect("x509")), hosts(&["a.example"]));
    }
}
