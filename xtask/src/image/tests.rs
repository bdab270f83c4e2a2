use super::*;

/// A program that says it is for x86-64 and has no program headers.
fn program() -> Vec<u8> {
    let mut bytes = vec![0; 128];
    bytes[..4].copy_from_slice(b"\x7fELF");
    bytes[18] = 0x3e;
    bytes
}

fn spec(dir: &Path, archive: &str) -> ImageSpec {
    let binary = dir.join("program");
    fs::write(&binary, program()).expect("writes");
    ImageSpec {
        name: "localhost/thing:1".to_owned(),
        binary,
        entrypoint: "/usr/bin/thing".to_owned(),
        labels: BTreeMap::from([("org.opencontainers.image.title".to_owned(), "thing".to_owned())]),
        archive: dir.join(archive),
        compressed: false,
    }
}

fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut tar = tar::Archive::new(archive);
    let mut files = BTreeMap::new();
    for entry in tar.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("reads");
        files.insert(path, content);
    }
    files
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let dir = tempfile::tempdir().expect("temp dir");
    let one = build(&spec(dir.path(), "one.tar")).expect("builds");
    let two = build(&spec(dir.path(), "two.tar")).expect("builds");
    assert_eq!(one.digest, two.digest);
    assert_eq!(
        fs::read(one.path).expect("reads"),
        fs::read(two.path).expect("reads")
    );
}

#[test]
fn both_manifests_lead_to_the_one_layer_and_a_user_that_is_not_root() {
    let dir = tempfile::tempdir().expect("temp dir");
    let info = build(&spec(dir.path(), "image.tar")).expect("builds");
    let files = files(&fs::read(info.path).expect("reads"));
    let parse = |path: &str| -> Value { serde_json::from_slice(&files[path]).expect("JSON") };
    let docker = parse("manifest.json");
    let index = parse("index.json");
    assert_eq!(index["manifests"][0]["digest"], info.digest);
    let manifest = parse(&format!("blobs/{}", info.digest.replace(':', "/")));
    let layer = manifest["layers"][0]["digest"]
        .as_str()
        .expect("a digest")
        .replace(':', "/");
    assert_eq!(docker[0]["Layers"], json!([format!("blobs/{layer}")]));
    assert_eq!(docker[0]["RepoTags"], json!(["localhost/thing:1"]));
    let config = parse(docker[0]["Config"].as_str().expect("a path"));
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(
        config["config"]["Labels"]["org.opencontainers.image.title"],
        "thing"
    );
    assert_eq!(config["architecture"], "amd64");
}

#[test]
fn the_layer_holds_the_program_and_little_else() {
    let dir = tempfile::tempdir().expect("temp dir");
    let info = build(&spec(dir.path(), "image.tar")).expect("builds");
    let files_of_image = files(&fs::read(info.path).expect("reads"));
    let docker: Value = serde_json::from_slice(&files_of_image["manifest.json"]).expect("JSON");
    let layer = files(&files_of_image[docker[0]["Layers"][0].as_str().expect("a path")]);
    let names: Vec<&str> = layer.keys().map(String::as_str).collect();
    let expected = [
        "dev/",
        "etc/",
        "etc/group",
        "etc/passwd",
        "proc/",
        "sys/",
        "tmp/",
        "usr/",
        "usr/bin/",
        "usr/bin/thing",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_compressed_layer_unpacks_to_what_the_config_names_and_is_the_same_every_time() {
    let dir = tempfile::tempdir().expect("temp dir");
    let compressed = |archive: &str| {
        let spec = ImageSpec {
            compressed: true,
            ..spec(dir.path(), archive)
        };
        fs::read(build(&spec).expect("builds").path).expect("reads")
    };
    let archive = compressed("one.tar");
    assert_eq!(archive, compressed("two.tar"));
    let files = files(&archive);
    let docker: Value = serde_json::from_slice(&files["manifest.json"]).expect("JSON");
    let config: Value =
        serde_json::from_slice(&files[docker[0]["Config"].as_str().expect("a path")]).expect("JSON");
    let mut unpacked = Vec::new();
    let layer = &files[docker[0]["Layers"][0].as_str().expect("a path")];
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&layer[..]), &mut unpacked).expect("gzip");
    assert_eq!(
        config["rootfs"]["diff_ids"],
        json!([Blob::new(unpacked).digest()])
    );
}

#[test]
fn a_name_without_registry_or_tag_is_refused() {
    for name in [
        "recommender",
        "recommender:1",
        "library/recommender:1",
        "localhost/recommender",
    ] {
        assert!(check_name(name).is_err(), "{name}");
    }
    for name in ["localhost/recommender:1", "localhost:5000/a:1", "ghcr.io/a/b:1"] {
        assert!(check_name(name).is_ok(), "{name}");
    }
}

#[test]
fn a_program_that_needs_a_loader_is_refused() {
    let mut dynamic = program();
    dynamic[32] = 64; // program headers begin at byte 64,
    dynamic[54] = 56; // are 56 bytes long,
    dynamic[56] = 1; // and there is one:
    dynamic[64] = 3; // PT_INTERP
    let error = architecture(&dynamic).expect_err("dynamic");
    assert!(error.to_string().contains("not static"), "{error}");
    assert!(architecture(b"#!/bin/sh").is_err());
}

#[test]
fn a_program_with_a_symbol_table_is_refused() {
    let mut unstripped = program();
    unstripped[40] = 64; // section headers begin at byte 64,
    unstripped[58] = 64; // are 64 bytes long,
    unstripped[60] = 1; // and there is one:
    unstripped[68] = 2; // SHT_SYMTAB
    let error = architecture(&unstripped).expect_err("unstripped");
    assert!(error.to_string().contains("symbol table"), "{error}");
}
