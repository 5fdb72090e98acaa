//! Where the `.proto` files lie, and a resolver that parses each of them once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use protox::Error;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};
use serde_json::Value;

/// A relative name that a package of another file shadows; protoc looks at direct imports only and finds it.
const SHADOWED_IN: &str = "envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster.proto";
const SHADOWED: (&str, &str) = (
    " common.dynamic_forward_proxy.v3.DnsCacheConfig",
    " .envoy.extensions.common.dynamic_forward_proxy.v3.DnsCacheConfig",
);

type BoxError = Box<dyn std::error::Error>;

/// Directories of the `envoy-types` package that serve as include paths.
const ROOTS: &[&str] = &[
    "cel-spec/proto",
    "client_model",
    "data-plane-api",
    "googleapis",
    "opentelemetry-proto",
    "protoc-gen-validate",
    "ratelimit/api",
    "xds",
];

/// Finds the package among the dependencies that Cargo has already fetched for this build.
pub fn include_roots() -> Result<Vec<PathBuf>, BoxError> {
    let package = package_dir(true).or_else(|_| package_dir(false))?;
    let own = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("proto");
    let roots = ROOTS.iter().map(|root| package.join("proto").join(root));
    let roots: Vec<PathBuf> = roots.chain([own]).collect();
    match roots.iter().find(|root| !root.is_dir()) {
        Some(missing) => Err(format!("{} is not in the envoy-types package", missing.display()).into()),
        None => Ok(roots),
    }
}

fn package_dir(offline: bool) -> Result<PathBuf, BoxError> {
    let mut command = Command::new(std::env::var("CARGO")?);
    command.args(["metadata", "--format-version=1", "--filter-platform", &std::env::var("TARGET")?]);
    command.args(offline.then_some("--offline"));
    command.arg("--manifest-path").arg(Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("Cargo.toml"));
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    let found = packages.iter().find(|package| package["name"] == "envoy-types");
    let manifest =
        found.and_then(|p| p["manifest_path"].as_str()).ok_or("envoy-types is not a dependency")?;
    Ok(Path::new(manifest).parent().ok_or("manifest without directory")?.to_owned())
}

/// Parsed files, shared by all compilers of this build.
#[derive(Clone)]
pub struct Cache {
    resolver: Rc<ChainFileResolver>,
    parsed: Rc<RefCell<BTreeMap<String, File>>>,
}

impl Cache {
    /// Looks into `roots` in order, then into the well-known types of protox.
    pub fn new(roots: &[PathBuf]) -> Self {
        let mut resolver = ChainFileResolver::new();
        for root in roots {
            resolver.add(IncludeFileResolver::new(root.clone()));
        }
        resolver.add(GoogleFileResolver::new());
        Self { resolver: Rc::new(resolver), parsed: Rc::default() }
    }
}

impl FileResolver for Cache {
    fn open_file(&self, name: &str) -> Result<File, Error> {
        if let Some(file) = self.parsed.borrow().get(name) {
            return Ok(file.clone());
        }
        let mut file = self.resolver.open_file(name)?;
        if let (true, Some(source)) = (name == SHADOWED_IN, file.source()) {
            file = File::from_source(name, &source.replace(SHADOWED.0, SHADOWED.1))?;
        }
        self.parsed.borrow_mut().insert(name.to_owned(), file.clone());
        Ok(file)
    }
}
