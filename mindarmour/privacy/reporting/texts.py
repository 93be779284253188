"""Every sentence of the report, in English and in Chinese. `{name}` is filled in by `Texts`."""
from __future__ import annotations

from typing import Any

from mindarmour.utils import _validate

LANGUAGES = ("en", "zh")

_TEXTS: dict[str, tuple[str, str]] = {
    "report": ("Privacy report", "隐私报告"),
    "card": ("Privacy card", "隐私卡"),
    "created": ("Written {when} by mindarmour {version}", "由 mindarmour {version} 于 {when} 生成"),
    "yes": ("yes", "是"), "no": ("no", "否"), "none": ("none", "无"),
    "not_stated": ("not stated", "未说明"),
    "infinite": ("∞", "∞"),
    # claim
    "claim": ("What is claimed", "所声明的隐私保证"),
    "headline": ("ε = {epsilon} at δ = {delta}", "ε = {epsilon}，δ = {delta}"),
    "headline_none": ("No privacy guarantee: ε is infinite", "没有隐私保证：ε 为无穷大"),
    "claim_means": (
        "Neighbouring data sets ({relation}) give models that no attack tells apart better than this allows. "
        "Unit of privacy: {unit}.",
        "对相邻数据集（{relation}），任何攻击区分所得模型的能力都不超过此界限。隐私单位：{unit}。"),
    "accountant": ("Accountant", "核算方法"), "epsilon": ("ε", "ε"), "delta": ("δ", "δ"), "kind": ("Kind", "类别"),
    "note": ("Note", "备注"), "sampling": ("Sampling", "采样"), "relation": ("Relation", "相邻关系"),
    "kind_guarantee": ("guarantee", "保证"), "kind_assumption": ("assumption", "假设"),
    "kind_estimate": ("estimate", "估计"), "kind_lower-bound": ("lower bound", "下界"),
    "relation_add-or-remove": ("one record added or removed", "增加或删除一条记录"),
    "relation_zero-out": ("one record's contribution removed", "将一条记录的贡献置零"),
    "relation_replace-one": ("one record replaced", "替换一条记录"),
    "large_delta": (
        "δ is not below 1/{records}: it would allow publishing a whole record.",
        "δ 不小于 1/{records}：这样的 δ 允许直接公开一整条记录。"),
    "seeded": (
        "Seeded noise: no protection against whoever knows the seed.",
        "噪声由固定种子产生：对知道种子的人没有任何保护。"),
    "no_steps": ("The ledger records no step.", "账本中没有任何训练步。"),
    # axis
    "axis": ("Theory beside measurement", "理论与测量"),
    "axis_caption": (
        "Theory bounds ε from above. A measurement bounds it from below, and a low one is normal: no attack finds all "
        "that theory allows. Estimates are no bounds.",
        "理论给出 ε 的上界；测量给出下界，下界偏低是正常的：没有攻击能测到理论允许的全部泄露。估计值不是界。"),
    "axis_theory": ("theory ({name})", "理论（{name}）"),
    "axis_certified": ("certified lower bound", "经认证的下界"),
    "axis_estimate": ("estimate, assuming a Gaussian curve", "估计值（假设高斯曲线）"),
    "axis_last": ("what the last weights alone can show", "仅凭最终权重所能显示的上限"),
    "axis_expected": ("expected if theory is tight", "理论为紧时的期望值"),
    "axis_ceiling": ("most that {guesses} guesses can show", "{guesses} 次猜测最多能证明的值"),
    "beyond": ("off the axis", "超出坐标轴"),
    # verdict
    "verdict": ("Verdict", "结论"),
    "verdict_contradicted": (
        "Contradicted: the run leaks more than the ledger claims, by {tests} (confidence {confidence}).",
        "被否定：该次训练的泄露超过账本所声明的程度，依据：{tests}（置信度 {confidence}）。"),
    "verdict_not contradicted": (
        "Not contradicted, at confidence {confidence}.", "未被否定（置信度 {confidence}）。"),
    "verdict_too weak to tell": (
        "Too weak to tell: this audit could not have contradicted the claim.",
        "无法判断：本次审计没有能力否定该声明。"),
    "verdict_none": (
        "No audit: nothing was measured against the claim.", "没有审计：尚未对该声明进行任何检验。"),
    "power": (
        "Under the best attack, noise too small by a factor of {factor} or more would have been found four times in "
        "five by the scores.",
        "在最优攻击下，若噪声偏小 {factor} 倍或更多，仅凭分数五次中有四次能被发现。"),
    "power_none": (
        "No lack of noise would have been found four times in five by the scores.",
        "无论噪声偏小多少，仅凭分数都达不到五次中四次的检出率。"),
    "power_checks": (
        "The white-box checks would have found noise too small by a factor of {factor} four times in five.",
        "白盒检查对噪声偏小 {factor} 倍的情形，五次中有四次能够发现。"),
    "black_box": (
        "A black-box audit reads how much a model memorises. It is no test of the implementation: a small network "
        "shows nothing even when trained without noise.",
        "黑盒审计反映的是模型的记忆程度，不能检验实现是否正确：小型网络即使完全不加噪声也可能测不出任何泄露。"),
    "never_compared": (
        "The verdict tests the claimed curve and the mechanism. It never compares two values of ε.",
        "结论来自对所声明曲线和机制本身的检验，从不直接比较两个 ε。"),
    # audits
    "audits": ("Audits", "审计"), "audit_by": ("Audit by {kind}", "审计方式：{kind}"),
    "certified_line": (
        "Certified: ε ≥ {epsilon} at δ = {delta}, confidence {confidence}. {right} of {guesses} guesses right; at most "
        "{ceiling} could have been shown.",
        "经认证：ε ≥ {epsilon}（δ = {delta}，置信度 {confidence}）。"
        "{guesses} 次猜测中 {right} 次正确；最多只能证明 {ceiling}。"),
    "expected_line": (
        "A perfect attack on a tight claim would have shown {expected}.",
        "若声明为紧，最优攻击预计可证明 {expected}。"),
    "assumes": ("Assumes: {what}.", "前提：{what}。"),
    "curve_line": (
        "Test of the claimed curve: p = {p} ({right} of {guesses} right; rejected below {alpha}).",
        "对所声明曲线的检验：p = {p}（{guesses} 次猜测中 {right} 次正确；低于 {alpha} 时否定）。"),
    "estimate_line": (
        "Estimate through a Gaussian curve: ε about {epsilon}. It may exceed the truth and is no bound.",
        "按高斯曲线估计：ε 约为 {epsilon}。该值可能大于真实值，不是界。"),
    "warning_few": ("Fewer than 10 guesses say next to nothing.", "少于 10 次猜测几乎说明不了什么。"),
    "warning_ceiling": (
        "{guesses} guesses can prove at most ε = {ceiling}, less than what is claimed: only the test of the curve can "
        "contradict.",
        "{guesses} 次猜测最多能证明 ε = {ceiling}，小于声明值：只有曲线检验能够否定该声明。"),
    "checks": ("White-box checks", "白盒检查"), "check": ("Check", "检查项"), "measured": ("Measured", "实测"),
    "claimed": ("Claimed", "声明"), "p_value": ("p", "p"), "outcome": ("Outcome", "结果"),
    "agrees": ("agrees", "一致"), "contradicts": ("contradicts", "矛盾"),
    "audit_scores": ("scores", "分数"),
    "audit_gradient canaries": ("gradient canaries in a table", "表中的梯度金丝雀"),
    "audit_gradient canaries in every parameter": ("gradient canaries in every parameter", "每个参数中的梯度金丝雀"),
    "audit_canaries in the data": ("canaries in the data", "数据中的金丝雀"),
    "assumed_independent fair coins; the number of guesses fixed beforehand": (
        "independent fair coins; the number of guesses fixed beforehand", "硬币公平且相互独立；猜测次数事先确定"),
    "sampling_poisson": ("Poisson", "泊松采样"), "sampling_balls-in-bins": ("balls in bins", "随机分箱"),
    "sampling_shuffle": ("shuffled partition, no amplification", "打乱分批（无放大）"),
    "sampling_fixed": ("fixed size, without replacement", "固定大小无放回"), "sampling_full": ("none", "无采样"),
    "test_trade-off curve": ("the test of the claimed curve", "对所声明曲线的检验"),
    "test_noise multiplier": ("noise multiplier", "噪声倍数"),
    "test_sampling rate": ("sampling rate", "采样率"),
    "test_correlation of steps": ("correlation of steps", "步间相关性"),
    "test_excluded canaries": ("excluded canaries", "被排除的金丝雀"),
    "test_noise of each step": ("noise of each step", "每一步的噪声"),
    "test_noise of each parameter": ("noise of each parameter", "每个参数的噪声"),
    "test_repeated readings": ("repeated readings", "重复读数"),
    # attacks
    "attacks": ("Attacks under the curve", "理论曲线之下的攻击"),
    "attacks_caption": (
        "The shaded region is out of reach for every attack, by the ledger's whole curve at once: tighter than e^ε "
        "times the false positive rate.",
        "阴影区域是任何攻击都达不到的，由账本的整条曲线得出，比 e^ε 乘以假阳性率更紧。"),
    "metric": ("Metric", "指标"), "members": ("{members} members, {others} others", "成员 {members}，非成员 {others}"),
    "value": ("Measured", "实测"),
    "interval": ("95 % interval", "95 % 区间"), "ceiling": ("Ceiling", "上限"),
    "metric_auc": ("AUC", "AUC"), "metric_balanced_accuracy": ("balanced accuracy", "平衡准确率"),
    "metric_advantage": ("advantage", "优势"), "metric_tpr": ("TPR at FPR {rate}", "FPR 为 {rate} 时的 TPR"),
    "metric_reconstruction": (
        "reconstruction, where a guess succeeds in {rate}", "重建成功率（盲猜成功率为 {rate} 时）"),
    "no_verdict": (
        "A ceiling bounds the expected rate over training and coins. Where members were not chosen by coins, or one "
        "model has many of them, a reading above it is a reason to look, not a violation: no verdict.",
        "上限约束的是对训练随机性和抽签取平均后的期望值。若成员不是由抽签决定，或同一模型含有多名成员，实测高于上限只说明值得检查，"
        "并不构成违反，因此不作结论。"),
    "above": ("▲ above the ceiling: look", "▲ 高于上限：请检查"),
    "any_attack": ("What any attack can reach at most", "任何攻击最多能达到"),
    "no_attacks": ("No attack was measured. What any attack could reach at most:",
                   "未测量任何攻击。任何攻击的上限如下："),
    "fpr": ("false positive rate", "假阳性率"), "tpr": ("true positive rate", "真阳性率"),
    "chance": ("guessing", "随机猜测"), "reachable": ("ceiling of the ledger", "账本给出的上限"),
    # settings
    "settings": ("What ran", "训练设置"), "run": ("Run", "运行"), "steps": ("Steps", "步数"),
    "batch": ("Batch", "批大小"), "noise": ("Noise multiplier", "噪声倍数"), "unit": ("Unit", "单位"),
    "source": ("Noise from", "噪声来源"), "data": ("Data fingerprint", "数据指纹"),
    "acknowledged": ("Acknowledged", "用户声明"), "release": ("release, ε {epsilon}", "发布，ε {epsilon}"),
    "more_rows": ("and {count} more rows, in the JSON file", "另有 {count} 行，见 JSON 文件"),
    "disclosure": ("What else must be known", "其他须披露的信息"),
    "tuning_runs": ("Runs on the same data to choose settings", "为选择设置而在同一数据上进行的运行次数"),
    "access": ("Who sees the model, and what of it", "谁能看到模型及其哪些部分"),
    "fixed_seed": ("A seed of the noise was fixed", "噪声种子是否固定"),
    "versions": ("Versions", "版本"),
    # blind spots
    "blind_spots": ("What this cannot see", "本报告看不到的方面"),
    "blind_tuning": (
        "Settings chosen by looking at the same data: each such run spends privacy that this ledger does not hold.",
        "在同一数据上调参：每次这样的运行都会消耗隐私，而本账本中没有记录。"),
    "blind_group": (
        "Groups: a person with k records is protected about k times less.",
        "群体：若一人拥有 k 条记录，其保护约弱 k 倍。"),
    "blind_preprocessing": (
        "Preprocessing that looked at the data, such as normalising or a vocabulary.",
        "依赖数据的预处理，例如归一化或词表。"),
    "blind_layers": (
        "Noise missing on layers that hold no canary.", "未放置金丝雀的层上缺失的噪声。"),
    "blind_attacks": (
        "Attacks stronger than those that ran: a failed attack proves nothing.",
        "比已执行的攻击更强的攻击：攻击失败不能证明任何事情。"),
    "blind_outside": (
        "Whatever left the training by another door: logs, metrics on training data, timing, other models.",
        "通过其他途径泄露的信息：日志、训练集上的指标、时间侧信道、其他模型。"),
}


class Texts:
    """Sentences of one language.

    Args:
        language (str): 'en' or 'zh'.

    Examples:
        >>> Texts("en")("headline", epsilon="2.5", delta="1e-05")
        'ε = 2.5 at δ = 1e-05'
    """

    def __init__(self, language: str = "en") -> None:
        self.language = _validate.choice("language", language, LANGUAGES)
        self._place = LANGUAGES.index(language)

    def __call__(self, name: str, /, **values: Any) -> str:
        return _TEXTS[name][self._place].format(**values)

    def word(self, group: str, name: str) -> str:
        """The word for a value of the data, such as a relation; the value itself where there is none."""
        key = f"{group}_{name}"
        return _TEXTS[key][self._place] if key in _TEXTS else name
