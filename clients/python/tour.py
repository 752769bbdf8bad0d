"""The tour of a generated Python client: list, batch, read, changes with and without a conflict, an order with its key, three errors.

    python tour.py openapi_generator http://127.0.0.1:3000        the client that openapi-generator makes, as the package aside_generated
    python tour.py openapi_python_client http://127.0.0.1:3000    the one of openapi-python-client, as the package aside_client

Each adapter below has the same calls and returns the models of its generator. A problem is raised as Refused.
"""

import sys
import uuid


class Refused(Exception):
    """A problem that the service answered, as the model of the generator."""

    def __init__(self, problem):
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem = problem


class OpenapiGenerator:
    """openapi-generator (python): an API class for each tag, and an exception with the problem."""

    def __init__(self, address):
        import aside_generated as package

        self.package = package
        client = package.ApiClient(package.Configuration(host=address))
        self.products, self.orders = package.ProductsApi(client), package.OrdersApi(client)

    def call(self, operation, *arguments, **options):
        try:
            return operation(*arguments, **options)
        except self.package.ApiException as error:
            raise Refused(error.data) from error

    def create(self, **fields):
        return self.call(self.products.create_product, self.package.NewProduct(**fields))

    def list(self, **filters):
        return self.call(self.products.list_products, **filters)

    def batch(self, ids):
        return self.call(self.products.batch_products, ids=ids)

    def read(self, id):
        return self.call(self.products.get_product, id)

    def change(self, id, if_match, **fields):
        return self.call(self.products.update_product, id, self.package.ProductChange(**fields), if_match=if_match)

    def order(self, key, customer, product, quantity):
        items = [self.package.NewOrderItem.model_construct(product_id=product, quantity=quantity)]
        order = self.package.NewOrder.model_construct(customer_id=customer, items=items)
        return self.call(self.orders.create_order, order, idempotency_key=key)


class OpenapiPythonClient:
    """openapi-python-client: a module for each operation, which returns the model of the answer or the problem."""

    def __init__(self, address):
        import aside_client
        from aside_client import models
        from aside_client.api.orders import create_order
        from aside_client.api.products import batch_products, create_product, get_product, list_products, update_product

        self.models, self.client = models, aside_client.Client(base_url=address)
        self.operations = locals()

    def call(self, name, *arguments, **options):
        answer = self.operations[name].sync(*arguments, client=self.client, **options)
        if isinstance(answer, self.models.ProblemDetails):
            raise Refused(answer)
        return answer

    def create(self, **fields):
        return self.call("create_product", body=self.models.NewProduct.from_dict(fields))

    def list(self, **filters):
        return self.call("list_products", **filters)

    def batch(self, ids):
        return self.call("batch_products", ids=ids)

    def read(self, id):
        return self.call("get_product", id)

    def change(self, id, if_match, **fields):
        return self.call("update_product", id, body=self.models.ProductChange.from_dict(fields), if_match=if_match)

    def order(self, key, customer, product, quantity):
        item = self.models.NewOrderItem(product_id=product, quantity=quantity)
        return self.call("create_order", body=self.models.NewOrder(customer_id=customer, items=[item]), idempotency_key=key)


def refused(what, status, kind, call):
    """The problem of a call that must be refused."""
    try:
        call()
    except Refused as refusal:
        problem = refusal.problem
        # `type` is a builtin of Python, and one generator adds an underscore.
        given = getattr(problem, "type_", None) or problem.type
        assert (problem.status, given) == (status, f"/problems/{kind}"), refusal
        print(f"{what}: {refusal}")
        return problem
    raise AssertionError(f"{what}: it was not refused")


def tour(client):
    made = client.create(
        name="Tea, green", department="GROCERY", brand="National", category=f"TEAS {uuid.uuid4()}", type="GREEN TEA",
        package_size=None, price_cents=299, currency="USD", stock=10,
    )
    page = client.list(category=made.category, limit=5)
    assert [item.id for item in page.items] == [made.id] and page.next_cursor is None
    print(f"list: {len(page.items)} product")
    batch = client.batch(f"{made.id},9007199254740991")
    assert [item.id for item in batch.items] == [made.id] and batch.unknown == [9007199254740991]
    print(f"batch: {len(batch.items)} product, {len(batch.unknown)} unknown")
    read = client.read(made.id)
    assert (read.price_cents, read.package_size) == (299, None)
    print(f"read: {read.name}, version {read.version}")

    # The version of the body is enough for If-Match.
    changed = client.change(made.id, f'"{read.version}"', price_cents=249)
    assert (changed.price_cents, changed.version) == (249, read.version + 1)
    refused("changed with the old version", 412, "version-conflict", lambda: client.change(made.id, f'"{read.version}"', price_cents=1))
    assert client.read(made.id).price_cents == 249

    key = str(uuid.uuid4())
    order, again = client.order(key, 749, made.id, 2), client.order(key, 749, made.id, 2)
    assert order.id == again.id and client.read(made.id).stock == 8
    print(f"ordered twice with one key: one order, {order.id}")

    refused("an unknown product", 404, "not-found", lambda: client.read(9007199254740991))
    problem = refused("a quantity of zero", 422, "validation", lambda: client.order(str(uuid.uuid4()), 749, made.id, 0))
    assert problem.errors[0].pointer == "/items/0/quantity"
    problem = refused("a cursor that is none", 400, "invalid-parameter", lambda: client.list(cursor="nonsense"))
    assert problem.errors[0].parameter == "cursor"


ADAPTERS = {"openapi_generator": OpenapiGenerator, "openapi_python_client": OpenapiPythonClient}
tour(ADAPTERS[sys.argv[1]](sys.argv[2]))
