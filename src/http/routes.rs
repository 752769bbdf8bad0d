//! Maps paths to routes before the router runs and after its answer, for the names in metrics and
//! log lines. The router reports the route only to its own handlers. The map is built from the API
//! document, which is built with the router.

use axum::{extract::Request, http::Method};
use matchit::Router;
use utoipa::openapi::{
    OpenApi, RefOr,
    path::{Operation, ParameterIn},
};

use super::{problem::Problem, query};

/// The routes that are not in the document.
const PAGES: [&str; 5] = ["/", "/docs", "/docs/", "/docs/{*file}", "/openapi.json"];
/// The name of all other paths.
const UNMATCHED: &str = "unmatched";

/// All routes.
#[derive(Debug)]
pub struct Routes {
    known: Router<Route>,
    /// Indexed by route. The last one is `UNMATCHED`.
    names: Vec<String>,
    /// The query parameters of a route, by index and method, as far as the document describes them.
    parameters: Vec<Vec<(Method, Vec<String>)>>,
}

/// One route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    place: usize,
    /// Whether it serves resources, whose reads in flight are limited.
    pub resource: bool,
}

impl Route {
    /// The route of a request, which [`Routes::mark`] has set.
    pub fn of(request: &Request) -> Self {
        *request.extensions().get().expect("the route is set before it is asked for")
    }

    /// Its index among all routes.
    pub fn place(self) -> usize {
        self.place
    }
}

impl Routes {
    /// Builds the routes of `resources`, those of `others`, and the pages.
    pub fn new(resources: &OpenApi, others: &OpenApi) -> Self {
        let paths = |api: &OpenApi| api.paths.paths.keys().cloned().collect::<Vec<_>>();
        let described = |name: &String| methods(resources, name).or_else(|| methods(others, name)).unwrap_or_default();
        let resources = paths(resources);
        let more = paths(others).into_iter().filter(|path| !resources.contains(path));
        let pages = PAGES.map(str::to_owned);
        let names: Vec<String> =
            resources.iter().cloned().chain(more).chain(pages).chain([UNMATCHED.to_owned()]).collect();
        let parameters = names.iter().map(described).collect();
        let mut known = Router::new();
        for (place, name) in names.iter().enumerate().take(names.len() - 1) {
            let route = Route { place, resource: place < resources.len() };
            known.insert(name, route).expect("the router has taken this route too");
        }
        Self { known, names, parameters }
    }

    /// Finds the route of a request and sets it.
    pub fn mark(&self, mut request: Request) -> Request {
        let unmatched = Route { place: self.names.len() - 1, resource: false };
        let route = self.known.at(request.uri().path()).map_or(unmatched, |found| *found.value);
        request.extensions_mut().insert(route);
        request
    }

    /// Refuses query parameters that the route does not have. Pages and refused methods, which the
    /// document does not describe, take all.
    pub fn require_known_parameters(&self, request: &Request) -> Result<(), Problem> {
        let Some(query) = request.uri().query() else { return Ok(()) };
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let known = self.parameters[Route::of(request).place].iter().find(|(known, _)| known == method);
        let Some((_, known)) = known else { return Ok(()) };
        let unknown: Vec<_> = query::names(query).filter(|name| !known.contains(name)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(Problem::parameters(unknown.into_iter().map(|name| (name, query::UNKNOWN.to_owned()))))
    }

    /// The pattern of a route, for example `/products/{id}`.
    pub fn name(&self, route: Route) -> &str {
        &self.names[route.place]
    }

    /// The patterns of all routes in the order of their indexes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The number of routes.
    pub fn len(&self) -> usize {
        self.names.len()
    }
}

/// The methods of a path, each with its query parameters.
fn methods(api: &OpenApi, path: &str) -> Option<Vec<(Method, Vec<String>)>> {
    let item = api.paths.paths.get(path)?;
    let operations = [
        (Method::GET, &item.get),
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
    ];
    let described = |(method, operation): (Method, &Option<Operation>)| {
        let parameters = operation.as_ref()?.parameters.iter().flatten();
        let of_query = parameters.filter_map(|parameter| match parameter {
            RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => Some(parameter.name.clone()),
            _ => None,
        });
        Some((method, of_query.collect()))
    };
    Some(operations.into_iter().filter_map(described).collect())
}
