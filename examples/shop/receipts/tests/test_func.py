"""The receipt that an order gets."""

from function.func import receipt


def test_names_who_ordered_what() -> None:
    order = {"customer": "guest", "product": "tea", "in_cart": 2}
    assert receipt(order) == "receipt for guest: tea, 2 in the cart"
