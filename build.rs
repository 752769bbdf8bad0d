//! A new file in `migrations` changes no source file, so cargo has to be told that the program embeds them.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
