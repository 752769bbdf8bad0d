//! A temporary file or folder of one test. It is removed when the test ends, even if the test
//! fails.

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
};

/// The path of the file or folder. Dropping it removes everything at the path.
pub struct Temporary(PathBuf);

impl Temporary {
    /// Returns a path that does not exist yet.
    fn path(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("aside-{}-{name}", uuid::Uuid::now_v7())))
    }

    /// Creates a file with these contents. `name` is the end of its name, such as `keys.json`.
    pub fn file(name: &str, contents: impl AsRef<[u8]>) -> Self {
        let file = Self::path(name);
        fs::write(&file.0, contents).expect("a temporary file");
        file
    }

    /// Creates an empty folder.
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
        // A process that has not ended yet may create a file in the folder during the removal.
        let _ = (0..10).any(|_| remove().is_ok() || !self.0.exists());
    }
}
