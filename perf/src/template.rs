//! Configuration templates of the peers: Jinja (`minijinja`), with the load of the point at hand as variables.

use minijinja::{Environment, UndefinedBehavior, context};

use crate::scenario::Load;

/// What a template can name besides the load.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) listen: u16,
    pub(crate) admin: u16,
    pub(crate) origin: u16,
    /// A directory that is removed with the proxy.
    pub(crate) directory: String,
    /// Where the certificates are; empty without TLS.
    pub(crate) tls: String,
    /// The rendered configuration.
    pub(crate) config: String,
}

/// Renders one text; an unknown name is an error, not an empty string.
pub(crate) fn render(text: &str, places: &Places, load: &Load) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_keep_trailing_newline(true);
    let values = context! {
        listen => places.listen, admin => places.admin, origin => places.origin,
        dir => places.directory, tls => places.tls, config => places.config,
        load => load,
        services => load.clusters,
        endpoints => addresses(load),
    };
    environment.render_str(text, values).map_err(|e| format!("template: {e:#}"))
}

/// Where the origin answers.
fn addresses(load: &Load) -> Vec<String> {
    match load.checked {
        0 => (1..=load.endpoints).map(|n| format!("127.0.0.{n}")).collect(),
        many => (0..many).map(|n| format!("127.1.{}.{}", n / 250, n % 250 + 1)).collect(),
    }
}

/// The host name under which a proxy with many clusters knows the n-th.
pub(crate) fn service(n: usize) -> String {
    format!("s{n}.perf.test")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Kind;

    fn load(clusters: usize) -> Load {
        Load {
            at: 0,
            kind: Kind::Http,
            connections: 64,
            body: 128,
            clusters,
            asked: 1,
            filters: if clusters == 3 { 10 } else { 0 },
            endpoints: clusters.min(3),
            checked: if clusters == 10 { 300 } else { 0 },
            http2: true,
            upstream_http2: true,
            streams: 1,
            request_body: 0,
            grpc: false,
            request_headers: 0,
            response_headers: 0,
            access_log: true,
            mesh: true,
            close: false,
            tls: (clusters == 10).then_some(crate::credentials::KeyType::Ecdsa),
            upstream_tls: clusters == 10,
            resumed: false,
        }
    }

    fn places() -> Places {
        Places {
            listen: 1,
            admin: 2,
            origin: 3,
            directory: "/d".into(),
            tls: "/t".into(),
            config: "/d/config".into(),
        }
    }

    #[test]
    fn a_load_fills_a_template() {
        let text = "{% for n in range(services) %}\ns{{ n }}:{{ origin }}{% for e in endpoints %} {{ e }}{% endfor %}\n\n{% endfor %}\n\
             {% if load.access_log %}\nlog {{ dir }}\n{% endif %}\n";
        assert_eq!(render(text, &places(), &load(1)).unwrap().trim(), "s0:3 127.0.0.1\nlog /d");
        assert_eq!(render(text, &places(), &load(3)).unwrap().matches("127.0.0.3").count(), 3);
        assert_eq!(render(text, &places(), &load(10)).unwrap().matches("127.1.1.50").count(), 10);
        assert_eq!(service(2), "s2.perf.test");
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        assert!(render("{{ lisen }}", &places(), &load(1)).unwrap_err().contains("template"));
    }

    #[test]
    fn every_template_of_the_repository_renders() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let mut seen = 0;
        for extension in ["yaml", "cfg", "conf", "nft"] {
            for (name, text) in crate::files(&folder, extension).unwrap() {
                for clusters in [1, 10] {
                    let out =
                        render(&text, &places(), &load(clusters)).unwrap_or_else(|e| panic!("{name}: {e}"));
                    assert!(!out.contains("{{") && !out.contains("{%"), "{name}");
                }
                seen += 1;
            }
        }
        assert!(seen >= 6, "{seen} templates");
    }
}
