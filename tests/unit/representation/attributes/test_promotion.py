"""What creatives promise: phrases of shops in Chinese and English, and phrases that only look like promises."""

from __future__ import annotations

import pytest

from adray.representation.attributes.implicit import read_promotion
from adray.representation.attributes.values import STATUSES, Text

PHRASES = [
    # Chinese
    ("双11全场5折起", "discount"),
    ("夏季清仓 低至3.8折", "discount"),
    ("八折优惠", "discount"),
    ("满300减50", "discount"),
    ("第二件半价", "discount"),
    ("立减100元", "discount"),
    ("特價商品", "discount"),
    ("ＳＡＬＥ", "discount"),
    ("领券立减20", "coupon"),
    ("店铺优惠券满199可用", "coupon"),
    ("无门槛优惠券", "coupon"),
    ("券后价99元", "coupon"),
    ("买一送一", "gift"),
    ("买2送1", "gift"),
    ("下单即送保温杯", "gift"),
    ("精美赠品随箱附赠", "gift"),
    ("限时抢购", "limited_time"),
    ("限量发售 售完即止", "limited_time"),
    ("最后3天", "limited_time"),
    ("整点秒杀", "limited_time"),
    ("2024春季新品", "new_arrival"),
    ("新款连衣裙", "new_arrival"),
    ("全球首发", "new_arrival"),
    ("预售 12月1日发货", "presale"),
    ("付定金立减", "presale"),
    ("現貨預購", "presale"),
    # Chinese, promising nothing
    ("不打折", "none"),
    ("新鲜水果 从不打折", "none"),
    ("本店商品不参与任何优惠", "none"),
    ("永不降价", "none"),
    ("没有赠品", "none"),
    ("无赠品", "none"),
    ("非预售，当天发货", "none"),
    ("不是预售", "none"),
    ("三折叠屏手机", "none"),
    ("全自动三折伞", "none"),
    ("折叠自行车", "none"),
    ("曲折的路", "none"),
    ("真皮沙发 舒适透气", "none"),
    ("送货上门", "none"),
    ("全新正品", "none"),
    # English
    ("30% off today", "discount"),
    ("30%OFF", "discount"),
    ("Save up to $50 on shoes", "discount"),
    ("SALE", "discount"),
    ("Summer sale now on", "discount"),
    ("Half price", "discount"),
    ("$20 off", "discount"),
    ("Clearance: everything must go", "discount"),
    ("No code needed: 20% off", "discount"),
    ("Use code SPRING15", "coupon"),
    ("Coupons for everyone", "coupon"),
    ("Promo code inside", "coupon"),
    ("Free gift with every order", "gift"),
    ("Buy 2, get 1", "gift"),
    ("Buy one get one free", "gift"),
    ("Few left", "limited_time"),
    ("Flash sale", "limited_time"),
    ("Only 3 left", "limited_time"),
    ("Limited-time offer", "limited_time"),
    ("Last chance", "limited_time"),
    ("NEW", "new_arrival"),
    ("New arrivals", "new_arrival"),
    ("New Sneaker", "new_arrival"),
    ("Just landed", "new_arrival"),
    ("Pre-order now", "presale"),
    ("Not only a discount", "discount"),
    # English, promising nothing
    ("No discount", "none"),
    ("no discounts ever", "none"),
    ("We do not offer any coupons", "none"),
    ("Never on sale", "none"),
    ("Not for sale", "none"),
    ("House for sale", "none"),
    ("After-sale service", "none"),
    ("Wholesale furniture", "none"),
    ("New Balance running shoes", "none"),
    ("I love New York", "none"),
    ("Made to last", "none"),
    ("Free shipping", "none"),
    ("Premium Kettle. Rated 4.8 of 5", "none"),
    ("A great deal of comfort", "none"),
    ("", "unknown"),
]


@pytest.mark.parametrize(("phrase", "status"), PHRASES)
def test_phrases(phrase, status):
    texts = [Text("copy", phrase)] if phrase else []
    found = read_promotion(texts)
    assert found.value == status, found
    assert status == "unknown" or 0.0 < found.confidence <= 1.0
    if found.evidence is not None:
        assert found.evidence in phrase


def test_every_status_is_in_the_table():
    assert {status for _, status in PHRASES} == {*STATUSES, "unknown"}


def test_evidence_and_source():
    found = read_promotion([Text("title", "Runner"), Text("ocr", "SALE", 0, 0.5), Text("copy", "Only $9. 30% off today")])
    assert (found.value, found.evidence, found.source) == ("discount", "30% off", "copy")
    # Two phrases of 0.9, one in a text that is read with 0.5: 1 - 0.1 * 0.55.
    assert found.confidence == pytest.approx(0.945)
    denied = read_promotion([Text("copy", "Sorry, no discount")])
    assert (denied.evidence, denied.source) == ("no discount", "copy")


def test_the_whole_word_is_the_evidence():
    assert read_promotion([Text("title", "New Watch")]).evidence == "New Watch"


def test_the_most_binding_promise_counts():
    assert read_promotion([Text("copy", "限时8折 预售")]).value == "presale"
    assert read_promotion([Text("copy", "限时8折")]).value == "discount"
    assert read_promotion([Text("copy", "NEW: 20% off with code SAVE20")]).value == "coupon"
    assert read_promotion([Text("copy", "Flash sale: 20% off")]).value == "discount"
