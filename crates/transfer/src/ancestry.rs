//! How the walk sees that followed links lead it in a circle.

use domain::Symlinks;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// A directory and those above it by identity, kept only where links are followed, to see circles.
pub(crate) struct Visited {
    dev: u64,
    ino: u64,
    above: Option<Rc<Visited>>,
}

impl Visited {
    /// Nothing where links are not followed; the error `ELOOP` where `fd` is above itself.
    pub(crate) fn next(
        fd: &OwnedFd,
        above: Option<&Rc<Visited>>,
        symlinks: Symlinks,
    ) -> io::Result<Option<Rc<Self>>> {
        if symlinks == Symlinks::Skip {
            return Ok(None);
        }
        let stat = rustix::fs::fstat(fd)?;
        let mut ancestor = above;
        while let Some(visited) = ancestor {
            if (visited.dev, visited.ino) == (stat.st_dev, stat.st_ino) {
                return Err(io::Error::from(rustix::io::Errno::LOOP));
            }
            ancestor = visited.above.as_ref();
        }
        Ok(Some(Rc::new(Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            above: above.map(Rc::clone),
        })))
    }
}
