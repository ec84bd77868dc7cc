//! The socket of the admin API: TCP, or a unix socket that is made and removed with care.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};

/// Owner and group may ask; others may not even connect.
const MODE: u32 = 0o660;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A bound admin socket. The file of a unix socket goes with it.
pub(crate) struct AdminListener {
    socket: Bound,
    _file: Option<SocketFile>,
}

enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AdminListener {
    /// Takes a socket that listens and does not block.
    pub(crate) fn tcp(socket: TcpListener) -> Self {
        Self { socket: Bound::Tcp(socket), _file: None }
    }

    /// Listens on a unix socket that owner and group may use. A file that an ended process left behind is replaced.
    ///
    /// # Errors
    /// `AddrInUse` when somebody answers at `path`, `AlreadyExists` when something else than a socket is there.
    pub(crate) fn bind_unix(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = SocketFile::at(path)?;
        // Nobody connects before `listen`, so the mode is right from the first connection on.
        std::fs::set_permissions(path, PermissionsExt::from_mode(MODE))?;
        socket.listen(BACKLOG)?;
        Ok(Self { socket: Bound::Unix(UnixListener::from(OwnedFd::from(socket))), _file: Some(file) })
    }

    pub(super) fn is_unix(&self) -> bool {
        matches!(self.socket, Bound::Unix(_))
    }
}

/// Removes the socket at `path` if nobody answers on it any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        let reason = "there is a file at this path, and it is no socket; move it away";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// The file of a unix socket, removed when dropped unless another process has put its own there.
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // A file that stays is removed by the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// One connection.
pub(super) type Stream = Box<dyn Duplex>;

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An admin socket that is being served.
pub(super) struct Acceptor {
    socket: Serving,
    _file: Option<SocketFile>,
}

enum Serving {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Acceptor {
    /// To be called inside the runtime that serves.
    pub(super) fn new(listener: AdminListener) -> io::Result<Self> {
        let socket = match listener.socket {
            Bound::Tcp(socket) => Serving::Tcp(tokio::net::TcpListener::from_std(socket)?),
            Bound::Unix(socket) => Serving::Unix(tokio::net::UnixListener::from_std(socket)?),
        };
        Ok(Self { socket, _file: listener._file })
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        Ok(match &self.socket {
            Serving::Tcp(socket) => Box::new(socket.accept().await?.0),
            Serving::Unix(socket) => Box::new(socket.accept().await?.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_nobody_answers_on_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("admin.sock");
        drop(UnixListener::bind(&path).expect("bound"));
        assert!(path.exists(), "the standard library leaves the file behind");

        let living = AdminListener::bind_unix(&path).expect("replaced");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        let taken = AdminListener::bind_unix(&path).err().expect("somebody answers");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);

        drop(living);
        assert!(!path.exists(), "removed at the end");
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notes");
        std::fs::write(&path, "mine").expect("written");
        assert!(AdminListener::bind_unix(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "mine");
    }

    #[test]
    fn the_socket_of_a_successor_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("admin.sock");
        let first = AdminListener::bind_unix(&path).expect("bound");
        // A file's number may be used again at once, so the first one is kept.
        std::fs::rename(&path, directory.path().join("old")).expect("moved");
        let second = AdminListener::bind_unix(&path).expect("bound");
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }
}
