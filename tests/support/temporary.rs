//! A file or a folder of one test, which goes with the test, however that ends.

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
};

/// Where it is. Dropping it removes what is there by then.
pub struct Temporary(PathBuf);

impl Temporary {
    /// A path at which nothing is yet.
    fn path(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("aside-{}-{name}", uuid::Uuid::now_v7())))
    }

    /// A file that holds this. `name` ends the name of it: `keys.json`.
    pub fn file(name: &str, contents: impl AsRef<[u8]>) -> Self {
        let file = Self::path(name);
        fs::write(&file.0, contents).expect("a temporary file");
        file
    }

    /// An empty folder.
    pub fn folder(name: &str) -> Self {
        let folder = Self::path(name);
        fs::create_dir(&folder.0).expect("a temporary folder");
        folder
    }
}

impl Deref for Temporary {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let remove = || if self.0.is_dir() { fs::remove_dir_all(&self.0) } else { fs::remove_file(&self.0) };
        // Somebody who has not ended yet may put a file into the folder while it is emptied.
        let _ = (0..10).any(|_| remove().is_ok() || !self.0.exists());
    }
}
