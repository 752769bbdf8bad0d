//! Which route a path belongs to, known before the router is asked and after its answer: the names of metrics and log lines. The
//! router says it only to its own handlers. Built from the API's document, which is built with the router.

use matchit::Router;
use utoipa::openapi::OpenApi;

/// The routes that are not in the document.
const PAGES: [&str; 5] = ["/", "/docs", "/docs/", "/docs/{*file}", "/openapi.json"];
/// The name of everything else.
const UNMATCHED: &str = "unmatched";

/// All routes.
#[derive(Debug)]
pub struct Routes {
    known: Router<Route>,
    /// By the places of the routes; the last one is `UNMATCHED`.
    names: Vec<String>,
}

/// One route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    place: usize,
    /// Whether it serves resources, of which only so many are read at a time.
    pub resource: bool,
}

impl Route {
    /// Its place among all.
    pub fn place(self) -> usize {
        self.place
    }
}

impl Routes {
    /// The routes of `resources`, those of `others`, and the pages.
    pub fn new(resources: &OpenApi, others: &OpenApi) -> Self {
        let paths = |api: &OpenApi| api.paths.paths.keys().cloned().collect::<Vec<_>>();
        let resources = paths(resources);
        let others = paths(others).into_iter().filter(|path| !resources.contains(path));
        let pages = PAGES.map(str::to_owned);
        let names: Vec<String> =
            resources.iter().cloned().chain(others).chain(pages).chain([UNMATCHED.to_owned()]).collect();
        let mut known = Router::new();
        for (place, name) in names.iter().enumerate().take(names.len() - 1) {
            let route = Route { place, resource: place < resources.len() };
            known.insert(name, route).expect("the router has taken this route too");
        }
        Self { known, names }
    }

    /// The route of a path.
    pub fn find(&self, path: &str) -> Route {
        let unmatched = Route { place: self.names.len() - 1, resource: false };
        self.known.at(path).map_or(unmatched, |found| *found.value)
    }

    /// The pattern of a route: `/products/{id}`.
    pub fn name(&self, route: Route) -> &str {
        &self.names[route.place]
    }

    /// The patterns of all routes, by their places.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }
}
