//! No import cycles between the modules of a crate: whoever reads a file can read what it depends on first, and stop.
//!
//! Sources are parsed with `syn`. A module is a file. An edge leads from a file to the file that *defines* an item which
//! it names: a re-export (`pub use`) is followed to the definition and is no dependency of the file that re-exports.
//! Tests are left out, because a test of a module may use anything. Not seen: names that only a macro's expansion holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use evident_tests::binaries::workspace;
use syn::visit::{self, Visit};

/// Each crate with the number of cycles that it still has. A number only ever falls.
const CRATES: [(&str, usize); 11] = [
    ("ratls/formats", 0),
    ("ratls/measure", 2),
    ("ratls/findings", 0),
    ("ratls/verify", 1),
    ("ratls/appraise", 4),
    ("ratls", 0),
    ("attester", 3),
    ("proxy-core", 0),
    ("proxy-guest", 3),
    ("proxy-client", 4),
    ("simulator", 1),
];

type ModulePath = Vec<String>;

/// What one file says about names.
#[derive(Default)]
struct Module {
    file: PathBuf,
    /// Name as seen by others --> the path behind `pub use`, absolute.
    reexports: BTreeMap<String, ModulePath>,
    /// Modules whose every item is re-exported.
    reexported_globs: Vec<ModulePath>,
    /// Local name --> the absolute path that a private `use` gives it.
    imports: BTreeMap<String, ModulePath>,
    /// Items defined here.
    items: BTreeSet<String>,
    /// Every path that the code names, absolute where it begins with `crate`, `self` or `super`.
    named: Vec<ModulePath>,
}

struct CrateModules(BTreeMap<ModulePath, Module>);

impl CrateModules {
    fn read(root: &Path) -> Result<Self> {
        let mut modules = BTreeMap::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("main.rs") {
                    let place = place(path.strip_prefix(root)?);
                    let text = std::fs::read_to_string(&path)?;
                    let parsed = syn::parse_file(&text).with_context(|| format!("parsing {}", path.display()))?;
                    let mut reader = Reader { at: place.clone(), module: Module { file: path, ..Module::default() } };
                    reader.visit_file(&parsed);
                    modules.insert(place, reader.module);
                }
            }
        }
        // `#[cfg(test)] mod tests;` in files of their own.
        modules.retain(|place: &ModulePath, _| !place.iter().any(|name| name == "tests"));
        ensure!(!modules.is_empty(), "no sources in {}", root.display());
        Ok(CrateModules(modules))
    }

    /// The file that defines what this absolute path names; `None` for a module itself and for anything outside the crate.
    fn defining(&self, path: &[String], depth: usize) -> Option<&ModulePath> {
        let known = (0..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length]))?;
        let (place, module) = self.0.get_key_value(&path[..known])?;
        let item = path.get(known)?;
        if depth > 8 {
            return Some(place);
        }
        if item == "*" || module.items.contains(item) {
            return Some(place);
        }
        if let Some(target) = module.reexports.get(item) {
            return self.defining(target, depth + 1);
        }
        let of_glob = |glob: &ModulePath| {
            let found = self.defining(&[glob.as_slice(), std::slice::from_ref(item)].concat(), depth + 1)?;
            self.0[found].items.contains(item).then_some(found)
        };
        module.reexported_globs.iter().find_map(of_glob).or(Some(place))
    }

    fn edges(&self) -> BTreeMap<&ModulePath, BTreeSet<&ModulePath>> {
        let mut edges: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (place, module) in &self.0 {
            let imported = module.imports.values().cloned();
            let named = module.named.iter().filter_map(|path| self.absolute(place, module, path));
            let targets = edges.entry(place).or_default();
            for path in imported.chain(named) {
                targets.extend(self.defining(&path, 0).filter(|target| *target != place));
            }
        }
        edges
    }

    /// A path as the code writes it, from the crate's root: absolute already, through an import, or into a child.
    fn absolute(&self, place: &ModulePath, module: &Module, path: &ModulePath) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        if first == "crate" {
            return Some(rest.to_vec());
        }
        if let Some(import) = module.imports.get(first).or_else(|| module.reexports.get(first)) {
            return Some([import.as_slice(), rest].concat());
        }
        let child = [place.as_slice(), std::slice::from_ref(first)].concat();
        self.0.contains_key(&child).then(|| [child.as_slice(), rest].concat())
    }

    /// Groups of files that reach each other.
    fn cycles(&self) -> Vec<Vec<String>> {
        let edges = self.edges();
        let reach: BTreeMap<_, _> = edges.keys().map(|place| (*place, reached(&edges, place))).collect();
        let mut seen = BTreeSet::new();
        let mut cycles = Vec::new();
        for place in edges.keys() {
            if !reach[place].contains(place) || !seen.insert(*place) {
                continue;
            }
            let group: Vec<_> =
                reach[place].iter().filter(|other| reach.get(*other).is_some_and(|r| r.contains(place))).collect();
            seen.extend(group.iter().copied());
            cycles.push(group.into_iter().map(|place| self.shown(place)).collect());
        }
        cycles
    }

    fn shown(&self, place: &ModulePath) -> String {
        let file = &self.0[place].file;
        file.strip_prefix(workspace()).unwrap_or(file).display().to_string()
    }
}

fn reached<'a>(
    edges: &BTreeMap<&'a ModulePath, BTreeSet<&'a ModulePath>>,
    from: &ModulePath,
) -> BTreeSet<&'a ModulePath> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&ModulePath> = edges[from].iter().copied().collect();
    while let Some(place) = open.pop() {
        if found.insert(place) {
            open.extend(edges.get(place).into_iter().flatten());
        }
    }
    found
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`, `lib.rs` is the root.
fn place(file: &Path) -> ModulePath {
    let mut place: ModulePath =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if place.last().is_some_and(|last| last == "mod" || last == "lib") {
        place.pop();
    }
    place
}

struct Reader {
    at: ModulePath,
    module: Module,
}

impl Reader {
    /// `crate::a`, `self::a`, `super::a` from the root; anything else as it stands, to be looked up later.
    fn rooted(&self, segments: &[String]) -> (bool, ModulePath) {
        let mut base = self.at.clone();
        let mut rest = segments;
        match rest.first().map(String::as_str) {
            Some("crate") => return (true, rest[1..].to_vec()),
            Some("self") => rest = &rest[1..],
            Some("super") => {}
            _ => return (false, segments.to_vec()),
        }
        while let Some((first, after)) = rest.split_first()
            && first == "super"
        {
            base.pop();
            rest = after;
        }
        (true, [base.as_slice(), rest].concat())
    }

    fn import(&mut self, public: bool, segments: &[String], name: &str) {
        let (is_rooted, path) = self.rooted(segments);
        // `use child::Item` names a child or another crate; a path into another crate leads nowhere and does no harm.
        let path = if is_rooted { path } else { [self.at.as_slice(), &path].concat() };
        match (public, name) {
            (true, "*") => self.module.reexported_globs.push(path),
            (true, _) => drop(self.module.reexports.insert(name.to_owned(), path)),
            (false, "*") => {
                let everything = [path.as_slice(), &["*".to_owned()]].concat();
                self.module.imports.insert(format!("* of {}", path.join("::")), everything);
            }
            (false, _) => drop(self.module.imports.insert(name.to_owned(), path)),
        }
    }

    fn import_tree(&mut self, public: bool, before: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.import_tree(public, before, &path.tree);
                before.pop();
            }
            syn::UseTree::Name(name) if name.ident == "self" => {
                let last = before.last().cloned().unwrap_or_default();
                self.import(public, &before.clone(), &last);
            }
            syn::UseTree::Name(name) => {
                let name = name.ident.to_string();
                self.import(public, &[before.as_slice(), std::slice::from_ref(&name)].concat(), &name);
            }
            syn::UseTree::Rename(rename) => {
                let path = [before.as_slice(), &[rename.ident.to_string()]].concat();
                self.import(public, &path, &rename.rename.to_string());
            }
            syn::UseTree::Glob(_) => self.import(public, &before.clone(), "*"),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.import_tree(public, before, tree);
                }
            }
        }
    }

    fn define(&mut self, item: &syn::Item) {
        let name = match item {
            syn::Item::Const(item) => &item.ident,
            syn::Item::Enum(item) => &item.ident,
            syn::Item::Fn(item) => &item.sig.ident,
            syn::Item::Static(item) => &item.ident,
            syn::Item::Struct(item) => &item.ident,
            syn::Item::Trait(item) => &item.ident,
            syn::Item::Type(item) => &item.ident,
            syn::Item::Mod(syn::ItemMod { ident, content: Some(_), .. }) => ident,
            _ => return,
        };
        self.module.items.insert(name.to_string());
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(item) {
            self.define(item);
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let public = !matches!(item.vis, syn::Visibility::Inherited);
        self.import_tree(public, &mut Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let (is_rooted, path_here) = self.rooted(&segments);
        self.module.named.push(if is_rooted { [&["crate".to_owned()], &path_here[..]].concat() } else { path_here });
        visit::visit_path(self, path);
    }
}

fn is_for_tests(item: &syn::Item) -> bool {
    let attributes = match item {
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => return false,
    };
    let mentions_tests = |list: &syn::MetaList| {
        let condition = list.tokens.to_string();
        condition == "test" || condition.contains("test-support")
    };
    attributes.iter().any(|a| a.path().is_ident("cfg") && a.meta.require_list().is_ok_and(mentions_tests))
}

#[test]
fn no_crate_has_an_import_cycle_beyond_those_counted() -> Result<()> {
    for (name, still) in CRATES {
        let modules = CrateModules::read(&workspace().join(name).join("src"))?;
        let cycles: Vec<String> = modules.cycles().into_iter().map(|cycle| cycle.join(", ")).collect();
        ensure!(
            cycles.len() == still,
            "{name} has {} import cycles, not {still}:\n{}",
            cycles.len(),
            cycles.join("\n")
        );
    }
    Ok(())
}

/// The finder itself: what is a cycle and what is none.
#[test]
fn the_finder_follows_reexports_imports_and_children() -> Result<()> {
    let cycles = |files: &[(&str, &str)]| -> Result<usize> {
        let folder = tempfile::tempdir()?;
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().context("a folder")?)?;
            std::fs::write(path, text)?;
        }
        Ok(CrateModules::read(folder.path())?.cycles().len())
    };
    let a_uses_b = ("a.rs", "use crate::b::B; pub struct A(B);");
    assert_eq!(cycles(&[("lib.rs", "mod a; mod b;"), a_uses_b, ("b.rs", "pub struct B;")])?, 0);
    assert_eq!(cycles(&[("lib.rs", "mod a; mod b;"), a_uses_b, ("b.rs", "pub struct B(Box<super::a::A>);")])?, 1);
    // Through a module's name, and in an expression.
    let b = ("b.rs", "use crate::a; pub struct B; fn f() { a::make(); }");
    assert_eq!(cycles(&[("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::B; pub fn make() -> B { B }"), b])?, 1);
    // A parent that only re-exports does not depend on its child; one that calls it does.
    let child = ("m/child.rs", "use super::Shared; pub struct C(Shared);");
    assert_eq!(
        cycles(&[("lib.rs", "mod m;"), ("m/mod.rs", "mod child; pub use child::C; pub struct Shared;"), child])?,
        0
    );
    let calls = "mod child; pub struct Shared; fn f() { child::g(); }";
    assert_eq!(cycles(&[("lib.rs", "mod m;"), ("m/mod.rs", calls), child])?, 1);
    // `super::X` that the parent re-exports from a sibling leads to the sibling.
    let sibling = ("m/sibling.rs", "pub struct Shared;");
    let parent = ("m/mod.rs", "mod child; mod sibling; pub use sibling::Shared; use child::C; fn f(_: C) {}");
    assert_eq!(cycles(&[("lib.rs", "mod m;"), parent, child, sibling])?, 0);
    // Tests may use anything.
    let tested = ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }");
    assert_eq!(cycles(&[("lib.rs", "mod a; mod b;"), a_uses_b, tested])?, 0);
    Ok(())
}
