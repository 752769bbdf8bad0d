//! Lists the migrations, so that the program can embed them: see `src/app/migrations.rs`.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    // A new file in `migrations` changes no source file, so cargo has to be told.
    println!("cargo:rerun-if-changed=migrations");
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("migrations");
    let mut files = fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    let mut list = String::new();
    for path in files {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).ok_or("a migration's name is not UTF-8")?;
        let (version, description) =
            stem.split_once('_').ok_or("a migration's name is a number, _ and what it does")?;
        let version: i64 = version.parse()?;
        list += &format!("({version}, {:?}, include_str!({path:?})),\n", description.replace('_', " "));
    }
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("migrations.rs"), format!("[{list}]"))?;
    Ok(())
}
