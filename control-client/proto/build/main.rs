//! Compiles the `.proto` files that travel inside the `envoy-types` package into one compact schema blob
//! (`src/schema/` reads it): names, numbers, kinds, oneofs and the validation rules of every message.

mod blob;
mod sources;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protox::prost_reflect::{EnumDescriptor, MessageDescriptor};

/// Every message and enum by full name, whichever file mentioned it first.
#[derive(Default)]
pub struct Types {
    messages: BTreeMap<String, MessageDescriptor>,
    enums: BTreeMap<String, EnumDescriptor>,
}

impl Types {
    fn add_message(&mut self, message: MessageDescriptor) {
        for child in message.child_messages() {
            self.add_message(child);
        }
        for child in message.child_enums() {
            self.enums.entry(child.full_name().to_owned()).or_insert(child);
        }
        self.messages.entry(message.full_name().to_owned()).or_insert(message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=Cargo.toml");
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    let roots = sources::include_roots()?;
    let types = compile(&roots)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("schema.bin");
    std::fs::write(out, blob::encode(&types)?)?;
    Ok(())
}

/// One compiler per file: a single run over all of them trips over names that two packages share.
fn compile(roots: &[PathBuf]) -> Result<Types, Box<dyn std::error::Error>> {
    let cache = sources::Cache::new(roots);
    let mut types = Types::default();
    let mut files = Vec::new();
    for root in roots {
        proto_files(root, root, &mut files)?;
    }
    files.push("google/protobuf/empty.proto".to_owned());
    files.sort();
    for name in &files {
        let mut compiler = protox::Compiler::with_file_resolver(cache.clone());
        compiler.include_source_info(false);
        compiler.open_file(name).map_err(|e| format!("{name}: {e}"))?;
        for file in compiler.descriptor_pool().files() {
            file.messages().for_each(|message| types.add_message(message));
            for item in file.enums() {
                types.enums.entry(item.full_name().to_owned()).or_insert(item);
            }
        }
    }
    Ok(types)
}

fn proto_files(root: &Path, dir: &Path, out: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            proto_files(root, &path, out)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            let relative = path.strip_prefix(root).unwrap_or(&path);
            out.push(relative.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(())
}
