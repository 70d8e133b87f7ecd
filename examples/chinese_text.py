"""中文文本分类: a Chinese BERT tells what a sentence is about; labels, texts and file names are Chinese throughout.

The sentences are made here, from parts; those of the test put parts together that training never saw together.
With --hub it is bert-base-chinese with its weights and tokenizer; without, a small BERT from random weights, on bytes.
"""

import csv
import itertools
import random
from pathlib import Path

from common import arguments, finish

import zoo

TOPICS = {
    "体育": ("球队 教练 运动员 守门员", "赢得了 谈到了 错过了 准备着", "决赛 这场比赛 冠军 点球"),
    "财经": ("银行 投资者 股东 央行", "公布了 降低了 关注着 买入了", "利率 股票 年度利润 债券"),
    "科技": ("工程师 实验室 程序员 机器人", "设计了 测试了 升级了 发现了", "芯片 新算法 操作系统 传感器"),
    "美食": ("厨师 外婆 食客 面包师", "品尝了 烤好了 端上了 推荐了", "饺子 红烧肉 豆腐汤 月饼"),
}
WHEN = ("昨天", "上午", "本周", "今年", "据说", "终于")


def write_splits(folder: Path) -> tuple[Path, Path, list[str]]:
    """训练.csv and 测试.csv (every fifth combination of a topic's parts), and the test's sentences."""
    rng = random.Random(0)
    rows: dict[str, list[tuple[str, str]]] = {"训练": [], "测试": []}
    for topic, parts in TOPICS.items():
        for index, (who, does, what) in enumerate(itertools.product(*map(str.split, parts))):
            rows["训练" if index % 5 else "测试"].append((f"{rng.choice(WHEN)}{who}{does}{what}。", topic))
    for name, found in rows.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *found])
    return folder / "训练.csv", folder / "测试.csv", [text for text, _ in rows["测试"]]


options = arguments(__doc__, "chinese")
train, test, texts = write_splits(options.output)
bert = zoo.info("bert-base-chinese")
small = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 512,
}
source, weights = (bert, "pretrained") if options.hub else (bert.evolve(config={**bert.config, **small}), None)
model = zoo.load(source, task="text-classification", labels=list(TOPICS), weights=weights, seed=0)
before = model.evaluate(test)
epochs = 1 if options.quick else 3 if options.hub else 20
model.finetune(train, val=0.1, epochs=epochs, learning_rate=3e-5 if options.hub else 2e-3, batch_size=16)
finish(model, before, test, texts[:16], options.output, metric="accuracy")
