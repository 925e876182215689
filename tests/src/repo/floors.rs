//! Checks which file may import which: folders are on floors, and no two files import each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

use crate::stack::root;

/// A module: its names from the crate's root on.
type Module = Vec<String>;

/// Each crate's sources, and its folders and files from the lowest floor to the highest. Each may
/// import those listed before it. `lib` and `main` are above all.
const FLOORS: [(&str, &[&str]); 7] = [
    ("common/reading/src", &[]),
    ("common/service/src", &[]),
    ("common/ledger/src", &[]),
    (
        "gateway/src",
        &[
            "request_error",
            "metrics",
            "admission",
            "records",
            "items",
            "request_span",
            "topics",
            "ingest",
            "http",
            "config",
            "app",
        ],
    ),
    (
        "worker/src",
        &[
            "metrics",
            "batch",
            "mysql",
            "health",
            "dead_letter",
            "redis",
            "pipeline",
            "canary",
            "commands",
            "config",
            "app",
        ],
    ),
    (
        "alerter/src",
        &[
            "metrics",
            "rules",
            "rules/validation",
            "rules/index",
            "rules/loading",
            "engine",
            "mysql",
            "notify",
            "pipeline",
            "health",
            "commands",
            "config",
            "app",
            "worked_cases",
        ],
    ),
    ("tests/src", &[]),
];

/// Folders of the alerter that decide without I/O.
const PURE: [&str; 4] = ["rules", "rules/validation", "rules/index", "engine"];

/// Names that mean I/O or a clock.
const IMPURE: [&str; 5] = ["sqlx", "fred", "reqwest", "tokio", "SystemTime"];

/// The names in a file.
#[derive(Default)]
struct Names {
    /// Paths in `use` items and in code, segment by segment.
    paths: BTreeSet<Module>,
}

impl Names {
    fn of(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap();
        let mut names = Self::default();
        syn::parse_file(&text).unwrap().items.iter().for_each(|item| names.visit_item(item));
        names
    }

    fn add_tree(&mut self, tree: &UseTree, mut prefix: Module) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.add_tree(&path.tree, prefix);
            }
            UseTree::Name(name) => {
                prefix.push(name.ident.to_string());
                self.paths.insert(prefix);
            }
            UseTree::Rename(name) => {
                prefix.push(name.ident.to_string());
                self.paths.insert(prefix);
            }
            UseTree::Glob(_) => drop(self.paths.insert(prefix)),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.add_tree(tree, prefix.clone()));
            }
        }
    }
}

impl Visit<'_> for Names {
    fn visit_item(&mut self, item: &Item) {
        let attributes: &[Attribute] = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => &[],
        };
        let is_test = |attribute: &Attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
        };
        if !attributes.iter().any(is_test) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        self.add_tree(&item.tree, Module::new());
    }

    fn visit_path(&mut self, path: &syn::Path) {
        // One name alone may be a variable of the same name as a module.
        if path.segments.len() > 1 {
            self.paths.insert(path.segments.iter().map(|part| part.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &syn::Visibility) {
        // `pub(super)` names a module and imports nothing of it.
    }

    fn visit_macro(&mut self, called: &syn::Macro) {
        visit::visit_macro(self, called);
        // A macro's arguments are tokens, which print with a blank on both sides of `::`.
        let text = called.tokens.to_string().replace(" :: ", "::");
        for word in text.split(|letter: char| !letter.is_alphanumeric() && !"_:".contains(letter)) {
            if word.contains("::") {
                self.paths.insert(word.split("::").map(str::to_owned).collect());
            }
        }
    }
}

/// Collects the files of a crate that are no tests, by their modules.
fn sources(folder: &Path, module: &Module, found: &mut BTreeMap<Module, PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let is_test =
            name == "tests" || name == "test_support" || name == "bin" || name.ends_with("_tests");
        let mut inner = module.clone();
        if is_test || name == "main" {
            continue;
        }
        if path.is_dir() {
            inner.push(name);
            sources(&path, &inner, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            if name != "mod" && name != "lib" {
                inner.push(name);
            }
            found.insert(inner, path);
        }
    }
}

/// Returns the modules that each module of a crate imports, without itself and the crate's root.
fn imports(crate_sources: &str) -> BTreeMap<Module, BTreeSet<Module>> {
    let mut files = BTreeMap::new();
    sources(&root().join(crate_sources), &Module::new(), &mut files);
    assert!(files.len() > 5, "{crate_sources}: {files:?}");
    let imported = |module: &Module, path: &Module| {
        let mut path = path.as_slice();
        let mut base = match path.first()?.as_str() {
            "crate" => Module::new(),
            "self" | "super" => module.clone(),
            child if files.contains_key(&[module.as_slice(), &[child.to_owned()]].concat()) => {
                module.clone()
            }
            _ => return None,
        };
        while let Some("crate" | "self" | "super") = path.first().map(String::as_str) {
            if path[0] == "super" {
                base.pop();
            }
            path = &path[1..];
        }
        base.extend_from_slice(path);
        while !files.contains_key(&base) {
            base.pop()?;
        }
        (!base.is_empty() && base != *module).then_some(base)
    };
    let of = |(module, file): (&Module, &PathBuf)| {
        let names = Names::of(file);
        let found = names.paths.iter().filter_map(|path| imported(module, path)).collect();
        (module.clone(), found)
    };
    files.iter().map(of).collect()
}

/// Returns the floor of a module: the longest entry of `floors` that contains it.
fn floor(module: &Module, floors: &[&str]) -> Option<usize> {
    let path = format!("{}/", module.join("/"));
    let stands =
        floors.iter().enumerate().filter(|(_, room)| path.starts_with(&format!("{room}/")));
    stands.max_by_key(|(_, room)| room.len()).map(|(floor, _)| floor)
}

#[test]
fn no_file_imports_from_a_floor_above_its_own() {
    for (crate_sources, floors) in FLOORS.iter().filter(|(_, floors)| !floors.is_empty()) {
        let modules = imports(crate_sources);
        let mut upwards = Vec::new();
        for (module, imported) in modules.iter().filter(|(module, _)| !module.is_empty()) {
            let own = floor(module, floors);
            assert!(own.is_some(), "{crate_sources}/{} stands on no floor", module.join("/"));
            upwards.extend(imported.iter().filter(|other| floor(other, floors) > own).map(
                |other| {
                    format!("{crate_sources}: {} imports {}", module.join("/"), other.join("/"))
                },
            ));
        }
        assert!(upwards.is_empty(), "{upwards:#?}");
    }
}

#[test]
fn no_two_files_import_each_other_directly_or_by_others() {
    for (crate_sources, _) in FLOORS {
        let mut modules = imports(crate_sources);
        // A module without importers or without imports is on no circle. The modules left at the
        // end are.
        loop {
            let left: BTreeSet<Module> = modules.keys().cloned().collect();
            let imported: BTreeSet<Module> = modules.values().flatten().cloned().collect();
            modules.retain(|module, imports| {
                imports.retain(|other| left.contains(other));
                !imports.is_empty() && imported.contains(module)
            });
            if modules.len() == left.len() {
                break;
            }
        }
        assert!(modules.is_empty(), "{crate_sources}: {modules:#?}");
    }
}

#[test]
fn the_alerter_decides_without_io_and_without_a_clock() {
    let (sources_of_alerter, floors) = FLOORS[5];
    let mut files = BTreeMap::new();
    sources(&root().join(sources_of_alerter), &Module::new(), &mut files);
    let pure =
        |module: &Module| floor(module, floors).is_some_and(|floor| PURE.contains(&floors[floor]));
    let core: Vec<_> = files.iter().filter(|(module, _)| pure(module)).collect();
    assert!(core.len() > 20, "{core:?}");
    for (module, file) in core {
        for path in Names::of(file).paths {
            let io = path.iter().find(|name| IMPURE.contains(&name.as_str()));
            assert!(io.is_none(), "{} names {}", module.join("/"), path.join("::"));
        }
    }
}
